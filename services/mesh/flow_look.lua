-- flags: no-writes
-- What stands at keys, in numbers alone: no entry leaves the server, however large it is.
--   KEYS: the keys;  ARGV: how many groups of a stream are looked at
--   returns the server's time (ms), then for each key its kind; for a stream
--     {kind, length, entries added, first id, last id, groups, {name, consumers, pending, lag, read, delivered,
--      oldest unread, oldest pending} …}
-- Where the server can't say it, -1 stands for a number and '' for an id.

local at_most = tonumber(ARGV[1])

local function by_name(pairs)
  local found = {}
  for n = 1, #pairs, 2 do found[pairs[n]] = pairs[n + 1] end
  return found
end

local function first_after(key, id)
  local entry = redis.call('XRANGE', key, '(' .. id, '+', 'COUNT', 1)[1]
  return entry and entry[1] or ''
end

local function group(key, found)
  local lag = found['lag'] or -1
  local delivered = found['last-delivered-id']
  local unread = lag ~= 0 and delivered ~= '18446744073709551615-18446744073709551615' and first_after(key, delivered)
  local pending = found['pending'] > 0 and redis.call('XPENDING', key, found['name'])[2]
  return {string.sub(found['name'], 1, 200), found['consumers'], found['pending'], lag, found['entries-read'] or -1, delivered,
    unread or '', pending or ''}
end

local function stream(key)
  local info = by_name(redis.call('XINFO', 'STREAM', key))
  local first = info['first-entry'] and info['first-entry'][1] or ''
  local seen = {'stream', info['length'], info['entries-added'] or -1, first, info['last-generated-id'], info['groups']}
  -- a list without end is not gone through
  if info['groups'] <= at_most then
    for _, found in ipairs(redis.call('XINFO', 'GROUPS', key)) do seen[#seen + 1] = group(key, by_name(found)) end
  end
  return seen
end

local time = redis.call('TIME')
local seen = {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)}
for n, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  seen[n + 1] = kind == 'stream' and stream(key) or kind
end
return seen
