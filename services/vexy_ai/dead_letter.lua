-- Puts an entry that nobody can do among the dead, with the reason, and takes it off the group's list.
-- Whoever comes second finds it done.
-- KEYS: 1 the stream, 2 the dead. ARGV: 1 group, 2 entry, 3 length of the dead, about, 4 fields as a JSON array
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(cjson.decode(ARGV[4])))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return 1
