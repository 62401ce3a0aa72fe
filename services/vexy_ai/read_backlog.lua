-- flags: no-writes
-- How far a group has come with a stream.
-- KEYS: 1 the stream. ARGV: 1 group
-- Returns: now in milliseconds; entries taken and not settled; entries nobody took, -1 for many where the server
-- lost count; the first of them; entries that were trimmed off before anyone took them, ever.
local COUNTED = 200

local function named(flat)
  local found = {}
  for at = 1, #flat, 2 do found[flat[at]] = flat[at + 1] end
  return found
end

-- A server goes on counting what was trimmed off unread as unread: few are counted here, and what the server has
-- more than that is what was lost.
local function waiting(group, first)
  local counted = #redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', COUNTED)
  local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
  local unread = group.lag and math.min(group.lag, stream.length) or -1
  if counted < COUNTED then unread = counted end
  if not group['entries-read'] or unread < 0 then return unread, 0 end
  return unread, math.max(0, stream['entries-added'] - group['entries-read'] - unread)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(flat)
  if group.name == ARGV[1] then
    local first = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
    if not first then return {now, group.pending, 0, false, 0} end
    local unread, lost = waiting(group, first[1])
    return {now, group.pending, unread, first[1], lost}
  end
end
return redis.error_reply('NOGROUP there is no group ' .. ARGV[1])
