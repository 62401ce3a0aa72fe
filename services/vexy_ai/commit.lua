-- Write the digest of a window, once, and delete the window.
-- KEYS  1  the stream of notes
--       2  the known identities: a sorted set of items and digests, by the time they were written (s)
--       3  the windows: a hash
-- ARGV  1  the window
--       2  its number of notes when it was read
--       3  length of the stream, about
--       4  the digest's fields (JSON array of names and values); '' if the window has nothing to report
-- Returns 1 if it is done; 0 if another instance has done it, or the window has grown since it was read.
if redis.call('HGET', KEYS[3], ARGV[1] .. ' n') ~= ARGV[2] then return 0 end
if redis.call('ZSCORE', KEYS[2], 'digest:' .. ARGV[1]) then return 0 end
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(cjson.decode(ARGV[4])))
end
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], 'digest:' .. ARGV[1])
local prefix = ARGV[1] .. ' '
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
  if string.sub(field, 1, #prefix) == prefix then redis.call('HDEL', KEYS[3], field) end
end
return 1
