-- Takes consumers off the group who have nothing pending: the one named, and others idle for long.
-- What the one named has pending it gives back: whoever looks next may take it over at once.
-- KEYS: 1 the stream. ARGV: 1 group, 2 consumer, 3 idle for so many milliseconds
local back = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])
for _, one in ipairs(back) do
  -- no time in the queue is this long; JUSTID: it was not taken once more
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
