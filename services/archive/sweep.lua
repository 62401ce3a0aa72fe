-- Delete consumers of a group that have nothing pending: one that leaves, and those that are idle for long.
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer that leaves; '' for none
--       3  for how long another consumer must be idle (ms)
-- Returns the number of consumers that were deleted.
local deleted = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local found = {}
  for at = 1, #flat, 2 do found[flat[at]] = flat[at + 1] end
  local is_over = found.name == ARGV[2] or found.idle > tonumber(ARGV[3])
  if is_over and found.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], found.name)
    deleted = deleted + 1
  end
end
return deleted
