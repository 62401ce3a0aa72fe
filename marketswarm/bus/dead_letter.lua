-- Writes an entry that can't be processed to the dead letters, and acknowledges it.
-- KEYS  1  the stream
--       2  the dead letters: a stream
-- ARGV  1  group
--       2  id of the entry
--       3  length of the dead letters, about
--       4  the dead letter's fields (JSON array of names and values)
-- Returns 1 if it is done; 0 if the entry is no longer pending, because another consumer has acknowledged it.
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(cjson.decode(ARGV[4])))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return 1
