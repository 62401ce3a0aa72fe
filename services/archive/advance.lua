-- Stores up to which entry a stream is written, and a dead letter with it, if no other instance has moved that position.
-- KEYS  1  the positions: a hash
--       2  the dead letters: a stream; only with a letter
-- ARGV  1  the stream's field in the positions
--       2  the position as it was read there; empty for none
--       3  the new position
--       4  length of the dead letters, about; only with a letter
--       5  the dead letter's fields (JSON array of names and values)
-- Returns 1 if it is done; 0 if another instance has moved the position.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[5] then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', unpack(cjson.decode(ARGV[5])))
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
