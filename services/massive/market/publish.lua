-- Puts those bars on the stream that are not known yet, and remembers them; then moves the marks. One step.
-- A bar is known by a bit, its minute in the day of its symbol: 180 bytes a symbol and day.
-- KEYS: 1 the stream, 2 the marks (a hash: symbol to the start of the bar up to which it is whole),
--       then the bits, a key a symbol and day
-- ARGV: 1 length of the stream, about, 2 seconds that bits and marks are kept, 3 the last mark that can be true,
--       4 how many bars; for each bar: which of KEYS has its bit, its minute, its fields, a JSON array of names
--       and values; then for each mark that moves: the symbol, where it was, where to
-- Gives how many bars were new, and how many marks were not even where they had been: what was written since is
-- lost, and the mark stays, so that it can be asked for again.
local new, behind, at = 0, 0, 5
for _ = 1, tonumber(ARGV[4]) do
  local bits = KEYS[tonumber(ARGV[at])]
  if redis.call('GETBIT', bits, ARGV[at + 1]) == 0 then
    -- first the bar, then the memory of it: a bus without room refuses the first and forgets nothing
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(cjson.decode(ARGV[at + 2])))
    redis.call('SETBIT', bits, ARGV[at + 1], 1)
    new = new + 1
  end
  redis.call('EXPIRE', bits, ARGV[2])
  at = at + 3
end
for mark = at, #ARGV, 3 do
  local said = redis.call('HGET', KEYS[2], ARGV[mark])
  local there = said and string.match(said, '^%d+$') and tonumber(said) or -1
  if there < tonumber(ARGV[mark + 1]) then
    behind = behind + 1
  -- only forward, since another connection may have been further, or back from where a wrong clock led it
  elseif there < tonumber(ARGV[mark + 2]) or there > tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[2], ARGV[mark], ARGV[mark + 2])
  end
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return {new, behind}
