-- Run a command on each key, unless the lease under which it was meant has ended by now.
-- KEYS  the keys
-- ARGV  1  the end of the lease, in milliseconds by the clock of this server
--       2  the command
--       then its further arguments
-- Returns the sum of its answers (1 for one that is no number); -1 if it came too late: nothing was written.
-- include: in_time.lua
if is_late(ARGV[1]) then
  return -1
end

local sum = 0
for _, key in ipairs(KEYS) do
  sum = sum + (tonumber(redis.call(ARGV[2], key, unpack(ARGV, 3))) or 1)
end
return sum
