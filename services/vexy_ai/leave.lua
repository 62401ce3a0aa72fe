-- Give back what a consumer has pending, so that others may claim it at once. Then delete this consumer and those
-- that are idle for long, if they have nothing pending.
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer that leaves; '' for none
--       3  for how long another consumer must be idle to be deleted (ms)
-- Returns the number of consumers that were deleted.
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])
for _, one in ipairs(pending) do
  -- IDLE: a week, longer than any claim waits. JUSTID: this is not counted as a delivery.
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, one[1], 'IDLE', 604800000, 'JUSTID')
end
local removed = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local one = {}
  for at = 1, #flat, 2 do one[flat[at]] = flat[at + 1] end
  if one.pending == 0 and (one.name == ARGV[2] or one.idle > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one.name)
    removed = removed + 1
  end
end
return removed
