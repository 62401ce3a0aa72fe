-- Put a record from the quarantine back onto its stream, once.
-- KEYS  1  the quarantine
--       2  the stream that the record came from
-- ARGV  1  id of the entry in the quarantine
--       2  the record's fields (JSON array of names and values)
-- Returns the id of the new entry; nil if the entry is not in the quarantine any more.

-- what can't be written must fail before the record is taken out of the quarantine
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is a ' .. kind)
end
local fields = cjson.decode(ARGV[2])
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return false end
-- whoever writes this stream bounds its length
return redis.call('XADD', KEYS[2], '*', unpack(fields))
