-- Publish the bars that are not on the stream yet, and record them; then move marks. All in one step.
-- A published bar is recorded by one bit, its minute within the day of its symbol: 180 bytes a symbol and day.
--
-- KEYS  1     the stream of bars
--       2     the marks: a hash, symbol -> start of the bar up to which it is complete (epoch ms)
--       3 …   the bits, one key for each symbol and day
-- ARGV  1     length of the stream, about
--       2     seconds for which bits and marks are kept
--       3     the latest mark that can be right (epoch ms); a later one came from a wrong clock
--       4     number of bars; then for each bar three values:
--               the index in KEYS of its bits, its minute of the day, its fields (JSON array of names and values)
--       then for each mark that moves three values: symbol, previous mark (-1: none), new mark
-- Returns {number of bars that were new, number of marks that were below their previous value}. Such a mark is not
-- moved: the server has lost what was written since, and it must be requested again.
local new, behind, at = 0, 0, 5
for _ = 1, tonumber(ARGV[4]) do
  local bits = KEYS[tonumber(ARGV[at])]
  if redis.call('GETBIT', bits, ARGV[at + 1]) == 0 then
    -- first the bar, then its bit: a server without memory refuses the first, and so records nothing
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(cjson.decode(ARGV[at + 2])))
    redis.call('SETBIT', bits, ARGV[at + 1], 1)
    new = new + 1
  end
  redis.call('EXPIRE', bits, ARGV[2])
  at = at + 3
end
for mark = at, #ARGV, 3 do
  local raw = redis.call('HGET', KEYS[2], ARGV[mark])
  local stored = raw and string.match(raw, '^%d+$') and tonumber(raw) or -1
  if stored < tonumber(ARGV[mark + 1]) then
    behind = behind + 1
  -- only forward, since another connection may have been further; or back from where a wrong clock put it
  elseif stored < tonumber(ARGV[mark + 2]) or stored > tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[2], ARGV[mark], ARGV[mark + 2])
  end
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return {new, behind}
