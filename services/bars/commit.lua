-- Commit what came of some entries, symbol by symbol: the state of a symbol and everything to publish, or neither.
-- A symbol whose state has another version than the one that it was computed from is left as it is: another instance
-- has committed it.
-- KEYS  1, 2, 3  the streams of bars, of indicators, and of the quarantine
--       4 …      the state of each symbol: a hash
-- ARGV  1  length of the first two streams, about
--       2  length of the quarantine, about
--       3  seconds for which a state is kept that is not committed again
--       then for each symbol:
--         the version of its state
--         its entries: a JSON array of arrays, each the number of the stream, then names and values
--         the number of fields to set; then their names and values
--         the number of fields to delete; then their names
-- Returns for each symbol 1 if it was committed, else 0.
local SLICE = 1000
local lengths = {ARGV[1], ARGV[1], ARGV[2]}

-- what can't be written must fail before anything is
for stream = 1, 3 do
  local kind = redis.call('TYPE', KEYS[stream]).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[stream] .. ' is a ' .. kind)
  end
end
for key = 4, #KEYS do
  redis.call('HLEN', KEYS[key])
end

-- Call a command on a key with the arguments ARGV[first] to ARGV[last], as many at once as Lua can pass.
local function call_with(command, key, first, last)
  for from = first, last, SLICE do
    redis.call(command, key, unpack(ARGV, from, math.min(from + SLICE - 1, last)))
  end
end

local done, at = {}, 4
for key = 4, #KEYS do
  local version, entries, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first = at + 3
  local last = first + 2 * count - 1
  local deleted = tonumber(ARGV[last + 1])
  at = last + 2 + deleted
  if (redis.call('HGET', KEYS[key], 'version') or '0') == version then
    for _, entry in ipairs(cjson.decode(entries)) do
      local stream = entry[1]
      redis.call('XADD', KEYS[stream], 'MAXLEN', '~', lengths[stream], '*', unpack(entry, 2))
    end
    call_with('HSET', KEYS[key], first, last)
    call_with('HDEL', KEYS[key], last + 2, last + 1 + deleted)
    redis.call('HSET', KEYS[key], 'version', string.format('%d', version + 1))
    redis.call('EXPIRE', KEYS[key], ARGV[3])
    done[#done + 1] = 1
  else
    done[#done + 1] = 0
  end
end
return done
