-- Put a record from the quarantine back onto its stream, once.
-- KEYS  1  the quarantine
--       2  the stream that the record came from
-- ARGV  1  id of the entry in the quarantine
--       2  the record's fields (JSON array of names and values)
-- Returns the id of the new entry; nil if the entry is not in the quarantine any more.

-- written first: what can't be written stays in the quarantine, and XADD needs no right to read the stream
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return false end
-- the writer of this stream bounds its length
local entry = redis.call('XADD', KEYS[2], '*', unpack(cjson.decode(ARGV[2])))
redis.call('XDEL', KEYS[1], ARGV[1])
return entry
