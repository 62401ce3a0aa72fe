-- Writes the digest of a window, once, and lets go of the window.
-- KEYS: 1 the notes, 2 the memory, 3 the windows
-- ARGV: 1 the window, 2 how many notes it had when it was read, 3 length of the notes, about,
--       4 the digest's fields as a JSON array; empty when the window has nothing to tell
-- Returns 1, or 0 when there is nothing to do any more: another one did it, or the window has grown.
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
