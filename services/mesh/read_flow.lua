-- flags: no-writes
-- What stands at keys, in numbers alone: no entry leaves the server, however large it is.
-- Redis hands entries out whole, so they are copied here all the same: about so many bytes of them in one step.
--   KEYS: the keys;  ARGV: how many groups of a stream are looked at, how many bytes of its entries at most, then for
--     each key 1 when only its length is to be looked at
--   returns the server's time (ms), then for each key its kind; for a stream
--     {kind, length, entries added, first id, last id, groups, bytes when its entries are too large for that, else 0,
--      {name, consumers, pending, lag, read, delivered, oldest unread, oldest pending} …}
-- Where the server can't say it, -1 stands for a number and '' for an id.

local at_most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])

local function by_name(pairs)
  local found = {}
  for n = 1, #pairs, 2 do found[pairs[n]] = pairs[n + 1] end
  return found
end

local function size_of(entry)
  local size = 0
  for _, text in ipairs(entry and entry[2] or {}) do size = size + #text end
  return size
end

local function group(found, first_after)
  local lag = found['lag'] or -1
  local delivered = found['last-delivered-id']
  local unread = lag ~= 0 and delivered ~= '18446744073709551615-18446744073709551615' and first_after(delivered)
  return {string.sub(found['name'], 1, 200), found['consumers'], found['pending'], lag, found['entries-read'] or -1, delivered,
    unread or '', ''}
end

local copied = 0

-- MEMORY copies nothing: it reckons with the first node, of a hundred entries at most, and adds the last.
local function stream(key, length_alone)
  local length = redis.call('XLEN', key)
  if length_alone or copied > most_bytes then return {'stream', length, -1, '', '', -1, 0} end
  local size = redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 1)
  if size > most_bytes and size / length * 100 > most_bytes then return {'stream', length, -1, '', '', -1, size} end
  local info = by_name(redis.call('XINFO', 'STREAM', key))
  local first = info['first-entry'] and info['first-entry'][1] or ''
  copied = copied + size_of(info['first-entry']) + size_of(info['last-entry'])
  local seen = {'stream', info['length'], info['entries-added'] or -1, first, info['last-generated-id'], info['groups'], 0}
  local after = {} -- groups are often equally far
  local function first_after(id)
    if not after[id] then
      local entry = redis.call('XRANGE', key, '(' .. id, '+', 'COUNT', 1)[1]
      copied = copied + size_of(entry)
      after[id] = entry and entry[1] or ''
    end
    return after[id]
  end
  -- a list without end is not gone through
  local groups = info['groups'] <= at_most and redis.call('XINFO', 'GROUPS', key) or {}
  for n, flat in ipairs(groups) do
    if copied > most_bytes then break end
    local found = by_name(flat)
    seen[7 + n] = group(found, first_after)
    if found['pending'] > 0 then seen[7 + n][8] = redis.call('XPENDING', key, found['name'])[2] end
  end
  if copied > most_bytes then seen[7] = copied end
  return seen
end

local time = redis.call('TIME')
local seen = {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)}
for n, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  seen[n + 1] = kind == 'stream' and stream(key, ARGV[2 + n] == '1') or kind
end
return seen
