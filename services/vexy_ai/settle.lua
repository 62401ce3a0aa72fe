-- Writes the note about an item unless there is one, and takes the item off the group's list: both, or neither.
-- KEYS: 1 the notes, 2 the memory of items noted (a sorted set of ids by when), 3 the items
-- ARGV: 1 group, 2 entry, 3 the item's id, 4 now, 5 ids remembered at most, 6 seconds they are remembered,
--       7 length of the notes, about, 8 the note's fields, a JSON array of names and values
local new = 0
if not redis.call('ZSCORE', KEYS[2], ARGV[3]) then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[7], '*', unpack(cjson.decode(ARGV[8])))
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[5] - 1)
  redis.call('EXPIRE', KEYS[2], ARGV[6])
  new = 1
end
redis.call('XACK', KEYS[3], ARGV[1], ARGV[2])
return new
