-- Publish one load of a series: its new and changed records, its requests, its state and that of the sources that were
-- asked. All in one step, so that no reader sees half of a load and a repeated answer adds nothing.
--
-- KEYS  1   the stream of the records
--       2   the records that were published: a hash of buckets. A bucket has the records of a stretch of time, or the
--           latest quote of a symbol, as "<identity>|<id of its source>|<digest>;" each. So packed they take a fifth of
--           the memory that a sorted set would
--       3   the stream of requests
--       4   the states of the series: a hash
--       5   the states of the sources: a hash
--       6   the claim of the load
-- ARGV  1   the token of the claim
--       2   the series
--       3   the id of the load
--       4   the new state of the series (JSON), which gets `records`, the number of new ones, and `load`, the id
--       5   length of the stream of records, about
--       6   length of the stream of requests, about
--       7   from when on records are remembered (epoch ms): older ones can't be asked for again. An older quote is
--           remembered as long as each load names its symbol
--       8   milliseconds of a bucket; 0 for quotes: the latest of each symbol counts, an older one is not published.
--           One that lies ahead of the server's clock was dated by a clock that was set back since: any replaces it
--       9   the most bytes of a bucket; what does not fit is nonsense, and not published
--       10  seconds for which records are remembered
--       11  id of the source that serves
--       12  ids of the sources of the cascade in their order, with spaces around each. A record is replaced by its own
--           source, which corrects it, or by one before that; the same record of a later source is not published
--       13  number of records; then for each, sorted by time: time (epoch ms), bucket, identity (hexadecimal: its time
--           within the bucket, or of a quote its time; of a value that was revised since also when it was known),
--           digest, fields (JSON array)
--       then the number of requests, and for each the ids of the loads with which it may have been recorded, with
--       spaces between them, and its fields (JSON array). It was, if the load that was published last is one of these
--       then the number of sources, and for each the change of its state (JSON)
-- Returns {number of records that were new or changed, how many records were published before, how many of those have
-- other values now, then for each source how often in a row it took no request}; {-1} if the claim is lost, and then
-- nothing was written. An error, and nothing was written, if a key holds something else.
-- include: source_state.lua
if redis.call('GET', KEYS[6]) ~= ARGV[1] then
  return {-1}
end
for key, wanted in pairs({[KEYS[1]] = 'stream', [KEYS[3]] = 'stream', [KEYS[4]] = 'hash', [KEYS[5]] = 'hash'}) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= wanted and kind ~= 'none' then -- later it would be an error with half of the load written
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. kind .. ', and no ' .. wanted)
  end
end

-- the records
local function find_rank(source) -- of one that is no longer in the cascade the last: anyone may replace what it said
  return string.find(ARGV[12], ' ' .. source .. ' ', 1, true) or math.huge
end

local buckets = {}

local function read_bucket(name)
  if not buckets[name] then
    local bucket = {bytes = 0, records = {}}
    for identity, source, digest in string.gmatch(redis.call('HGET', KEYS[2], name) or '', '(%x+)|([^|;]+)|([^|;]+);') do
      bucket.records[identity] = {source = source, digest = digest}
      bucket.bytes = bucket.bytes + #identity + #source + #digest + 3
    end
    buckets[name] = bucket
  end
  return buckets[name]
end

local ahead_ms = (tonumber(redis.call('TIME')[1]) + 120) * 1000

local function find_latest(bucket) -- its time and the record: of a quote there is one
  for identity, record in pairs(bucket.records) do
    return tonumber(identity, 16), record
  end
end

local count, at, width, from_ms = tonumber(ARGV[13]), 14, tonumber(ARGV[8]), tonumber(ARGV[7])
local rank, new, oldest = find_rank(ARGV[11]), 0, math.huge
local known, corrected = 0, 0
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'hash' and kind ~= 'none' then -- somebody else wrote it
  redis.call('DEL', KEYS[2])
end
if count > 0 and width > 0 then
  for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
    oldest = math.min(oldest, tonumber(name) or math.huge)
  end
end
for _ = 1, count do
  local its_time, name, identity, digest = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local bucket, before, is_later = read_bucket(name), nil, false
  before = bucket.records[identity]
  if width == 0 and not before then
    local latest, record = find_latest(bucket)
    before, is_later = record, latest ~= nil and (its_time > latest or latest > ahead_ms)
  end
  local is_same_time = bucket.records[identity] ~= nil
  -- what is older than all that is remembered may have been published, and forgotten since
  local is_forgotten = width > 0 and oldest < math.huge and tonumber(name) < oldest and its_time < from_ms
  local is_full = not before and bucket.bytes > tonumber(ARGV[9])
  local is_new = not before and not is_forgotten and not is_full or is_later
    or is_same_time and before.digest ~= digest and rank <= find_rank(before.source)
  if is_same_time and before.digest ~= 'lost' then -- what is to be published again, see `forget_bars`, is no correction
    known = known + 1
    corrected = corrected + (is_new and 1 or 0)
  end
  if is_new then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', unpack(cjson.decode(ARGV[at + 4])))
    new = new + 1
  end
  if is_new or (is_same_time and rank < find_rank(before.source)) then
    if width == 0 then
      bucket.records = {}
    end
    bucket.records[identity] = {source = ARGV[11], digest = digest}
    bucket.bytes, bucket.is_changed = bucket.bytes + #identity + #ARGV[11] + #digest + 3, true
  end
  at = at + 5
end
local newest = -math.huge
for name, bucket in pairs(buckets) do
  newest = math.max(newest, tonumber(name) or -math.huge)
  if bucket.is_changed then
    local parts = {}
    for identity, record in pairs(bucket.records) do
      table.insert(parts, identity .. '|' .. record.source .. '|' .. record.digest .. ';')
    end
    redis.call('HSET', KEYS[2], name, table.concat(parts))
  end
end
if count > 0 and width == 0 then -- of quotes those symbols go that this load does not name, and whose quote is old
  for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
    local latest = buckets[name] and math.huge or find_latest(read_bucket(name))
    if not latest or latest < from_ms then
      redis.call('HDEL', KEYS[2], name)
    end
  end
end
if count > 0 and width > 0 then
  for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
    local number = tonumber(name)
    -- the newest one stays, however old it is: it comes again with each answer
    if not number or ((number + 1) * width <= from_ms and number < newest) then
      redis.call('HDEL', KEYS[2], name)
    end
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[10])

-- the requests
local last = string.match(redis.call('HGET', KEYS[4], ARGV[2]) or '', '^{"load":"(%x+)"')
count, at = tonumber(ARGV[at]), at + 1
for _ = 1, count do
  if not (last and string.find(ARGV[at], last, 1, true)) then
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', unpack(cjson.decode(ARGV[at + 1])))
  end
  at = at + 2
end

-- the states
local of_load = '{"load":"' .. ARGV[3] .. '","records":' .. new .. ','
redis.call('HSET', KEYS[4], ARGV[2], (string.gsub(ARGV[4], '^{', of_load, 1)))
count, at = tonumber(ARGV[at]), at + 1
local answer = {new, known, corrected}
for _ = 1, count do
  local state = change_source(KEYS[5], cjson.decode(ARGV[at]))
  table.insert(answer, state.refusals)
  at = at + 1
end
redis.call('DEL', KEYS[6])
return answer
