-- Put a record from the quarantine back onto its stream, once.
-- KEYS  1  the quarantine
--       2  the stream that the record came from
-- ARGV  1  id of the entry in the quarantine
--       2  length of that stream, about
--       3  the record's fields (JSON array of names and values)
-- Returns the id of the new entry; nil if the entry is not in the quarantine any more.
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return false end
return redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(cjson.decode(ARGV[3])))
