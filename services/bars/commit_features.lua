-- Publish features, and record which were published, symbol by symbol: both or neither.
-- KEYS  1    the stream of features
--       2 …  the state of each symbol: a hash
-- ARGV  1  length of the stream, about
--       then for each symbol:
--         the record as it was read; '' if there was none
--         the record as it is from now on
--         the entries: a JSON array of arrays of names and values
-- Returns for each symbol 1 if it is done, 0 if the record is another one by now.
local done, at = {}, 2
for key = 2, #KEYS do
  if (redis.call('HGET', KEYS[key], 'features') or '') == ARGV[at] then
    for _, entry in ipairs(cjson.decode(ARGV[at + 2])) do
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(entry))
    end
    redis.call('HSET', KEYS[key], 'features', ARGV[at + 1])
    done[#done + 1] = 1
  else
    done[#done + 1] = 0
  end
  at = at + 3
end
return done
