-- Takes consumers off the group who have nothing pending: the one named, and others idle for long.
-- KEYS: 1 the items. ARGV: 1 group, 2 consumer, 3 idle for so many milliseconds
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
