-- flags: no-writes
-- Read the type of each key, and of a stream its length and its consumer groups. No entry leaves the server. But Redis
-- copies an entry whole even if only its id is wanted, so one step copies a bounded number of bytes.
-- KEYS  the keys
-- ARGV  1  most groups of a stream that are read
--       2  most bytes of entries that are copied
--       then for each key 1 if only its length is to be read, else 0
-- Returns {the server's time (ms), then for each key its type, or for a stream
--   {type, length, entries added, first id, last id, number of groups, bytes of its entries if they are too large else 0,
--    then for each group {name, consumers, pending, lag, read, last delivered id, oldest unread id, oldest pending id}}}.
-- A number that the server does not know is -1, an id ''.

local max_groups, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Return a flat array of names and values as a table.
local function by_name(pairs)
  local found = {}
  for n = 1, #pairs, 2 do found[pairs[n]] = pairs[n + 1] end
  return found
end

-- Return the bytes of an entry's field names and values; 0 for nil.
local function size_of(entry)
  local size = 0
  for _, text in ipairs(entry and entry[2] or {}) do size = size + #text end
  return size
end

-- Return the eight values of one group; the oldest pending id is left ''. `first_after` returns the id after another.
local function group(found, first_after)
  local lag = found['lag'] or -1
  local delivered = found['last-delivered-id']
  local unread = lag ~= 0 and delivered ~= '18446744073709551615-18446744073709551615' and first_after(delivered)
  return {string.sub(found['name'], 1, 200), found['consumers'], found['pending'], lag, found['entries-read'] or -1, delivered,
    unread or '', ''}
end

local copied = 0

-- Return the values of a stream with its groups; only its length if the rest is not wanted or too large.
-- MEMORY USAGE copies nothing: it extrapolates from the first node, of a hundred entries at most.
local function stream(key, length_alone)
  local length = redis.call('XLEN', key)
  if length_alone or copied > max_bytes then return {'stream', length, -1, '', '', -1, 0} end
  local size = redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 1)
  if size > max_bytes and size / length * 100 > max_bytes then return {'stream', length, -1, '', '', -1, size} end
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
  -- with very many groups none is read
  local groups = info['groups'] <= max_groups and redis.call('XINFO', 'GROUPS', key) or {}
  for n, flat in ipairs(groups) do
    if copied > max_bytes then break end
    local found = by_name(flat)
    seen[7 + n] = group(found, first_after)
    if found['pending'] > 0 then seen[7 + n][8] = redis.call('XPENDING', key, found['name'])[2] end
  end
  if copied > max_bytes then seen[7] = copied end
  return seen
end

local time = redis.call('TIME')
local seen = {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)}
for n, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  seen[n + 1] = kind == 'stream' and stream(key, ARGV[2 + n] == '1') or kind
end
return seen
