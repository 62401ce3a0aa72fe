-- Add the new items of a feed to the stream, and the edited ones again, and record both. This is one step: a process that
-- is killed has published and recorded a batch, or neither.
--
-- KEYS  1  the stream of items
--       2  the known items: a hash, id -> 'version:digest:absent since'. The last is 0 while the feed shows the item:
--          such an item is never forgotten
--       3  the state of the feed: a hash
-- ARGV  1  now (epoch seconds)
--       2  the `turn` in the state when the reading began
--       3  for how long known items and state are kept (ms)
--       4  for how long an item that the feed no longer shows is kept (s)
--       5  most of such items
--       6  length of the stream, about
--       7  the new state (JSON array of names and values); '' if more batches of this reading follow
--       8  number of items; then for each item three values: its id, its digest, its fields (JSON array)
--       then, with the last batch, the ids of all items that the feed shows
-- Returns {1 if this was the first reading of the feed, 1 if another instance has published a reading meanwhile, number
-- of known items that were too large to be read, then for each item that was published its id and version}.

-- an item that changes with each reading has a clock or a counter in it: it is not published any more
local max_versions = 20
-- bytes of a known item; others with this service's password may have written there
local max_bytes = 200
-- with more known items than that, the absent ones are forgotten unread
local max_known = 100000

local now, is_last_batch = tonumber(ARGV[1]), ARGV[7] ~= ''
local first = redis.call('HGET', KEYS[3], 'turn') and 0 or 1
-- the older of two readings can't tell an edit from the text before the edit
local overtaken = (redis.call('HGET', KEYS[3], 'turn') or '0') ~= ARGV[2]
local answer = { first, overtaken and 1 or 0, 0 }

-- Return the record of a known item, or nil; a record that is too large is counted and read as nil.
local function read_known(id)
  if redis.call('HSTRLEN', KEYS[2], id) > max_bytes then
    answer[3] = answer[3] + 1
    return nil
  end
  return redis.call('HGET', KEYS[2], id)
end

-- Add an item to the stream with the time and its version, and add its id and version to the answer.
local function publish(id, version, fields)
  fields[#fields + 1] = 'seen'
  fields[#fields + 1] = ARGV[1]
  if version > 1 then
    for _, word in ipairs({ 'version', tostring(version), 'updates', '1' }) do
      fields[#fields + 1] = word
    end
  end
  -- first the item, then its record: a server without memory refuses the first, and so records nothing
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], '*', unpack(fields))
  answer[#answer + 1] = id
  answer[#answer + 1] = tostring(version)
end

local at = 9
for _ = 1, tonumber(ARGV[8]) do
  local id, digest = ARGV[at], ARGV[at + 1]
  local known = read_known(id)
  local version, before, absent_since = 0, nil, nil
  if known then
    version, before, absent_since = string.match(known, '^(%d+):(%x*):([%d.]+)$')
    version = tonumber(version) or 0
  end
  local edited = before ~= digest and not overtaken and version < max_versions
  if version == 0 or edited then
    publish(id, version + 1, cjson.decode(ARGV[at + 2]))
    redis.call('HSET', KEYS[2], id, (version + 1) .. ':' .. digest .. ':0')
  elseif absent_since ~= '0' then
    redis.call('HSET', KEYS[2], id, version .. ':' .. before .. ':0')
  end
  at = at + 3
end

-- Delete the records of all items that are not in `shown`, without reading them.
local function forget_all_but(shown)
  local kept = {}
  for id in pairs(shown) do
    kept[id] = read_known(id)
  end
  answer[3] = answer[3] + 1
  redis.call('UNLINK', KEYS[2])
  for id, known in pairs(kept) do
    redis.call('HSET', KEYS[2], id, known)
  end
end

-- Mark the known items that are not in `shown` as absent; delete those that are absent for too long, or too many.
local function forget_absent(shown)
  local absent = {}
  if redis.call('HLEN', KEYS[2]) > max_known then
    return forget_all_but(shown)
  end
  for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not shown[id] then
      local head, gone = string.match(read_known(id) or '', '^(%d+:%x*:)([%d.]+)$')
      gone = tonumber(gone) or 0
      if gone == 0 then
        gone = now
        redis.call('HSET', KEYS[2], id, (head or '1::') .. ARGV[1])
      end
      absent[#absent + 1] = { gone, id }
    end
  end
  table.sort(absent, function(one, other) return one[1] < other[1] end)
  for place, one in ipairs(absent) do
    if one[1] < now - tonumber(ARGV[4]) or place <= #absent - tonumber(ARGV[5]) then
      redis.call('HDEL', KEYS[2], one[2])
    end
  end
end

if is_last_batch and not overtaken then
  local shown = {}
  for place = at, #ARGV do
    shown[ARGV[place]] = true
  end
  forget_absent(shown)
  redis.call('HSET', KEYS[3], unpack(cjson.decode(ARGV[7])))
  redis.call('HSET', KEYS[3], 'turn', string.format('%.0f', (tonumber(ARGV[2]) or 0) + 1))
end
for place = 2, 3 do
  redis.call('PEXPIRE', KEYS[place], ARGV[3])
end
return answer
