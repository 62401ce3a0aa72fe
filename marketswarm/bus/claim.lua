-- Claims entries that their consumers did not acknowledge in time, oldest first. This is not counted as a delivery.
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer that claims
--       3  for how long an entry must be idle (ms)
--       4  most entries
--       5  id to go on from, '0-0' to begin
-- Returns {ids of the entries, number of pending entries that were trimmed off the stream, id to go on from}. That id
-- is '0-0' at the end; without an id of an entry there is nothing to claim.
local at, trimmed = ARGV[5], 0
repeat
  -- looks at ten times as many entries, which may all be too young
  local found = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], at, 'COUNT', ARGV[4], 'JUSTID')
  at, trimmed = found[1], trimmed + #(found[3] or {})
  if #found[2] > 0 then
    return {found[2], trimmed, at}
  end
until at == '0-0'
return {{}, trimmed, at}
