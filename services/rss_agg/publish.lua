-- Puts what is new in a feed on the stream, an edited item again, and remembers both; in one step, so that a
-- process that dies before it has done nothing, and one that dies after has done it all.
-- KEYS: 1 the stream, 2 the memory (a hash: id to `version:digest:gone`), 3 the feed's state (a hash)
-- ARGV: 1 now, 2 the state's `turn` when the reading began, 3 how long both are kept, in ms,
--   4 how long an item that the feed no longer shows is remembered, in seconds, 5 of these at most so many,
--   6 length of the stream, about, 7 the state as it is from now on, a JSON array of names and values, empty while
--   more of this reading follows, 8 how many items; then for each its id, its digest and its fields, a JSON array;
--   then, with the last, the ids of all that the feed shows.
-- `gone` is 0 while the feed shows the item, then since when it does not: what a feed shows is never forgotten.
-- Returns 1 when it was the first reading, 1 when another instance was here meanwhile, how many of the memory's
-- values were too large to be looked at, then for each that was put on the stream its id and its version.

-- what is another one with each reading is no edit, but a clock or a counter
local most_versions = 20
-- of `version:digest:gone`, in bytes: anybody with this service's password may have written there
local most_bytes = 200
-- what is not shown any more is looked through in one step up to so many; with more it is forgotten unseen
local most_remembered = 100000

local now, last = tonumber(ARGV[1]), ARGV[7] ~= ''
local first = redis.call('HGET', KEYS[3], 'turn') and 0 or 1
-- whose reading is the older one can't know what is an edit and what is undoing it
local overtaken = (redis.call('HGET', KEYS[3], 'turn') or '0') ~= ARGV[2]
local told = { first, overtaken and 1 or 0, 0 }

local function remembered(id)
  if redis.call('HSTRLEN', KEYS[2], id) > most_bytes then
    told[3] = told[3] + 1
    return nil
  end
  return redis.call('HGET', KEYS[2], id)
end

local function tell(id, version, fields)
  fields[#fields + 1] = 'seen'
  fields[#fields + 1] = ARGV[1]
  if version > 1 then
    for _, word in ipairs({ 'version', tostring(version), 'updates', '1' }) do
      fields[#fields + 1] = word
    end
  end
  -- first the item, then the memory of it: a bus without room refuses the first and forgets nothing
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], '*', unpack(fields))
  told[#told + 1] = id
  told[#told + 1] = tostring(version)
end

local at = 9
for _ = 1, tonumber(ARGV[8]) do
  local id, digest = ARGV[at], ARGV[at + 1]
  local known = remembered(id)
  local version, before, gone = 0, nil, nil
  if known then
    version, before, gone = string.match(known, '^(%d+):(%x*):([%d.]+)$')
    version = tonumber(version) or 0
  end
  local edited = before ~= digest and not overtaken and version < most_versions
  if version == 0 or edited then
    tell(id, version + 1, cjson.decode(ARGV[at + 2]))
    redis.call('HSET', KEYS[2], id, (version + 1) .. ':' .. digest .. ':0')
  elseif gone ~= '0' then
    redis.call('HSET', KEYS[2], id, version .. ':' .. before .. ':0')
  end
  at = at + 3
end

local function forget_unseen(shown)
  local kept = {}
  for id in pairs(shown) do
    kept[id] = remembered(id)
  end
  told[3] = told[3] + 1
  redis.call('UNLINK', KEYS[2])
  for id, known in pairs(kept) do
    redis.call('HSET', KEYS[2], id, known)
  end
end

local function forget(shown)
  local absent = {}
  if redis.call('HLEN', KEYS[2]) > most_remembered then
    return forget_unseen(shown)
  end
  for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not shown[id] then
      local head, gone = string.match(remembered(id) or '', '^(%d+:%x*:)([%d.]+)$')
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

if last and not overtaken then
  local shown = {}
  for place = at, #ARGV do
    shown[ARGV[place]] = true
  end
  forget(shown)
  redis.call('HSET', KEYS[3], unpack(cjson.decode(ARGV[7])))
  redis.call('HSET', KEYS[3], 'turn', string.format('%.0f', (tonumber(ARGV[2]) or 0) + 1))
end
for place = 2, 3 do
  redis.call('PEXPIRE', KEYS[place], ARGV[3])
end
return told
