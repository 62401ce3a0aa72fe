-- Take one request from this hour's budget, if any is left.
-- KEYS  1  what was spent: a hash with the fields `hour` and `spent`
-- ARGV  1  requests in an hour
-- Returns 1 if the request may be made, else 0.
local hour = string.format('%d', math.floor(redis.call('TIME')[1] / 3600))
local kept = redis.call('HMGET', KEYS[1], 'hour', 'spent')
local spent = kept[1] == hour and tonumber(kept[2]) or 0
if spent >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'hour', hour, 'spent', spent + 1)
redis.call('EXPIRE', KEYS[1], 7200)
return 1
