-- flags: no-writes
-- Return how many entries of a stream wait for a group.
-- KEYS  1  the stream
-- ARGV  1  group
-- Returns {now (ms), entries that are pending, entries that were not delivered (-1: many, and the server lost count),
-- the id of the first of these or nil, entries that were trimmed before they were delivered, ever}.
local COUNTED = 200

-- Return a flat array of names and values as a table.
local function by_name(flat)
  local found = {}
  for at = 1, #flat, 2 do found[flat[at]] = flat[at + 1] end
  return found
end

-- Return how many entries after the last delivered one wait, and how many of them were lost; `first` is the id of the
-- first one. The server counts entries that were trimmed unread as unread: if there are few, they are counted here, and
-- what the server counts beyond them was lost.
local function count_unread(group, first)
  local counted = #redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', COUNTED)
  local stream = by_name(redis.call('XINFO', 'STREAM', KEYS[1]))
  local unread = group.lag and math.min(group.lag, stream.length) or -1
  if counted < COUNTED then unread = counted end
  if not group['entries-read'] or unread < 0 then return unread, 0 end
  return unread, math.max(0, stream['entries-added'] - group['entries-read'] - unread)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = by_name(flat)
  if group.name == ARGV[1] then
    local first = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
    if not first then return {now, group.pending, 0, false, 0} end
    local unread, lost = count_unread(group, first[1])
    return {now, group.pending, unread, first[1], lost}
  end
end
return redis.error_reply('NOGROUP there is no group ' .. ARGV[1])
