-- Publish minutes that a stream brought, and remember them as publish_series.lua does: a minute that comes both ways is
-- published once, and again if its source corrects it. All in one step.
--
-- KEYS  1     the stream of bars
--       2     the states of the sources: a hash
--       3 …   for each minute the published records of its series, and the claim of a load
-- ARGV  1     length of the stream of bars, about
--       2     seconds for which records are remembered
--       3, 4  id and name of the source
--       then for each minute six values: its bucket and identity, bucket and identity of the minute before it, digest,
--       fields (JSON array)
-- Returns for each minute {1 if it was new or changed or else 0, 1 if it follows what is there or else 0}. It does if the
-- minute before it is remembered, and it is not there from another source: of two sources a load finds out which one counts.
-- While its series is loaded a minute is not published, and the answer is {-1}: the load may know less of it.
-- include: source_state.lua
local function find_record(key, bucket, identity)
  local records = ';' .. (redis.call('HGET', key, bucket) or '')
  return records, string.find(records, ';' .. identity .. '|([^|;]+)|([^|;]+);')
end

local function publish(key, at)
  local _, before = find_record(key, ARGV[at + 2], ARGV[at + 3])
  local records, first, last, source, digest = find_record(key, ARGV[at], ARGV[at + 1])
  local is_ours = (source or ARGV[3]) == ARGV[3]
  local is_new = is_ours and digest ~= ARGV[at + 4]
  if is_new then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(cjson.decode(ARGV[at + 5])))
    local others = first and string.sub(records, 2, first) .. string.sub(records, last + 1) or string.sub(records, 2)
    local record = ARGV[at + 1] .. '|' .. ARGV[3] .. '|' .. ARGV[at + 4] .. ';'
    redis.call('HSET', key, ARGV[at], others .. record)
    redis.call('EXPIRE', key, ARGV[2])
  end
  return {is_new and 1 or 0, before and is_ours and 1 or 0}
end

local answer, new = {}, 0
for number = 3, #KEYS, 2 do
  local is_loaded = redis.call('EXISTS', KEYS[number + 1]) == 1
  local found = is_loaded and {-1} or publish(KEYS[number], 3 * number - 4)
  table.insert(answer, found)
  new = new + math.max(0, found[1])
end
if new > 0 and redis.call('HEXISTS', KEYS[2], ARGV[4]) == 1 then
  change_source(KEYS[2], {name = ARGV[4], add = {records = new}})
end
return answer
