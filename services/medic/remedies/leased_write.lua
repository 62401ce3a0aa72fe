-- Run a command on each key, unless the lease under which it was meant has ended by now.
-- KEYS  the keys
-- ARGV  1  the end of the lease, in milliseconds by the clock of this server
--       2  the command
--       then its further arguments
-- Returns the sum of its answers; -1 if it came too late: nothing was written.

local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 >= tonumber(ARGV[1]) then
  return -1
end

local sum = 0
for _, key in ipairs(KEYS) do
  sum = sum + redis.call(ARGV[2], key, unpack(ARGV, 3))
end
return sum
