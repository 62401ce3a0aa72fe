-- Write a request for another service, in place of one before it, unless it comes too late.
--
-- KEYS  1  the request: a string
-- ARGV  1  until when it may be written, in epoch ms
--       2  the request
--       3  the seconds after which it expires
-- Returns written or late.
-- include: in_time.lua
if is_late(ARGV[1]) then
  return 'late'
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 'written'
