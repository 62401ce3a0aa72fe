-- One turn of a member among those who share work: KEYS[1] holds the members, a sorted set of boots by the time,
-- on this server's own clock and in milliseconds, at which each counts as gone. ARGV:
--   boot  who asks
--   life  for how long it counts as here from now on, in milliseconds; 0 for leaving
--   whole the longest life that it gives itself, in milliseconds
--   most  how many members are answered
-- Whoever comes, leaves or is found gone is told on the channel of the same name: the boot who found it.
-- Returns in how many milliseconds the next of the others is gone, -1 for no other, then the members.

local key, boot, life, whole = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- anybody may have written there: what is no such set is nobody's
if redis.call('TYPE', key).ok ~= 'zset' then
  redis.call('DEL', key)
end

local function number(value)
  return string.format('%.0f', value)
end

local changed = redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. number(now))
if life > 0 then
  -- a clock that was set back, or a stranger's hand: nobody is a member for years
  changed = changed + redis.call('ZREMRANGEBYSCORE', key, '(' .. number(now + 10 * whole + 60000), '+inf')
  changed = changed + redis.call('ZADD', key, number(now + life), boot)
else
  changed = changed + redis.call('ZREM', key, boot)
end
if life > 0 then
  redis.call('PEXPIRE', key, number(10 * whole + 60000))
end
if changed > 0 then
  redis.call('PUBLISH', key, boot)
end

local next_gone = -1
local members = {}
local found = redis.call('ZRANGE', key, 0, ARGV[4] - 1, 'WITHSCORES')
for place = 1, #found, 2 do
  members[#members + 1] = found[place]
  if next_gone < 0 and found[place] ~= boot then
    next_gone = math.max(0, math.floor(tonumber(found[place + 1]) - now))
  end
end
return { next_gone, unpack(members) }
