-- Puts those items on the stream that are not known yet, and remembers them: each item once.
-- KEYS: 1 the stream, 2 the memory (a sorted set of ids by when last seen)
-- ARGV: 1 now, 2 ids remembered at most, 3 seconds they are remembered, 4 length of the stream, about;
--       then for each item its id and its fields, a JSON array of names and values
local new = 0
for at = 5, #ARGV, 2 do
  if not redis.call('ZSCORE', KEYS[2], ARGV[at]) then
    -- first the item, then the memory of it: a bus without room refuses the first and forgets nothing
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', unpack(cjson.decode(ARGV[at + 1])))
    new = new + 1
  end
  redis.call('ZADD', KEYS[2], ARGV[1], ARGV[at])
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[2] - 1)
redis.call('EXPIRE', KEYS[2], ARGV[3])
return new
