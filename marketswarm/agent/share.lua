-- Renews or ends the membership of one instance that shares work. KEYS[1] holds the members: a sorted set of boots
-- by the time, on this server's own clock and in milliseconds, at which each expires. ARGV:
--   boot  the member
--   life  of its membership from now on, in milliseconds; 0 to leave
--   whole the longest life that it requests, in milliseconds
--   most  the greatest number of members to return
-- If a member came, left or had expired, publishes `boot` on the channel of the same name.
-- Returns the milliseconds until the next other member expires, -1 for no other, then the members.

local key, boot, life, whole = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- any service may write there: a value of another type is deleted
if redis.call('TYPE', key).ok ~= 'zset' then
  redis.call('DEL', key)
end

local function number(value)
  return string.format('%.0f', value)
end

local changed = redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. number(now))
if life > 0 then
  -- drop members for years to come: the clock was set back, or another program wrote there
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
