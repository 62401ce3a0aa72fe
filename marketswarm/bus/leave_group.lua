-- Gives back what a consumer has pending, so that others may claim it at once. Then deletes this consumer and those
-- that are idle for long, if they have nothing pending: a thousand at most, since nothing else runs meanwhile.
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer that leaves; '' for none
--       3  for how long another consumer must be idle to be deleted (ms)
--       4  consumer that is not deleted, however idle it is; '' for none
-- Returns the number of consumers that were deleted.
local PAGE = 1000
local stream, group, leaver = KEYS[1], ARGV[1], ARGV[2]

local from = '-'
repeat
  local pending = redis.call('XPENDING', stream, group, from, '+', PAGE, leaver)
  for _, one in ipairs(pending) do
    -- IDLE: a week, longer than any claim waits. JUSTID: this is not counted as a delivery.
    redis.call('XCLAIM', stream, group, leaver, 0, one[1], 'IDLE', 604800000, 'JUSTID')
    from = '(' .. one[1]
  end
until #pending < PAGE

local deleted = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local found = {}
  for at = 1, #flat, 2 do
    found[flat[at]] = flat[at + 1]
  end
  local is_over = found.name == leaver or found.idle >= tonumber(ARGV[3])
  if deleted < PAGE and found.pending == 0 and is_over and found.name ~= ARGV[4] then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, found.name)
    deleted = deleted + 1
  end
end
return deleted
