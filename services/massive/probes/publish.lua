-- Publish results of probes, and count each in the past of its target. All in one step.
--
-- The past of a target is one string of records of 41 digits, in three rings: 60 of a minute, 288 of five minutes, 720 of
-- an hour. A record stands at its number modulo the length of its ring, and begins with that number, so a record of an
-- earlier round is known as such, and what was not probed has none:
--
--   10 digits  its time divided by the seconds of its ring
--    5         how many probes began in it (of more than 99,999 the rest is not counted)
--    5         how many of these failed
--    8         how long those that succeeded took on average, in microseconds
--    8         how long the slowest of them took
--    5         tenths of days for which the certificate was still good by the last of them, and one; 0 if it has none
--
-- Failures are a list, the latest first. An item (JSON) stands for all failures in a row with the same stage and error:
-- `since` and `until` (the first and the last of them, epoch seconds), `count`, `stage`, `error`, and `open` until a probe
-- succeeds or fails otherwise.
--
-- KEYS  1  the stream of results
--       then for each target three: its latest result, its past, its failures
-- ARGV  1  length of the stream, about
--       2  seconds for which a past and failures are kept
--       3  how many failures of a target are kept
--       then for each result ten values:
--          the index in KEYS of its target's first key, milliseconds for which it is the latest, its fields (JSON array
--          of names and values), the result (JSON), when the probe began (epoch seconds), 1 if it succeeded or 0, how
--          long it took in microseconds, the tenths of days as above, its stage, its error

local RINGS = { { 60, 60 }, { 300, 288 }, { 3600, 720 } }
local RECORD = 41
local LENGTH = RECORD * (60 + 288 + 720)

-- Delete a key of ours that another user has filled with something else: no write to it would succeed.
local function keep_only(key, kind)
  local actual = redis.call('TYPE', key).ok
  if actual ~= kind and actual ~= 'none' then
    redis.call('DEL', key)
  end
end

-- Have a past that can be written. A new one has its whole length at once: a string that grows takes twice its memory.
local function open_past(past)
  keep_only(past, 'string')
  if redis.call('STRLEN', past) > LENGTH then
    redis.call('DEL', past)
  end
  if redis.call('EXISTS', past) == 0 then
    redis.call('SETRANGE', past, LENGTH - 1, '\0')
  end
end

-- Count a probe in the record of one ring, which begins at `from` in the past.
local function count(past, from, ring, ts, ok, us, days)
  local number = math.floor(ts / ring[1])
  local at = from + RECORD * (number % ring[2])
  local raw = redis.call('GETRANGE', past, at, at + RECORD - 1)
  local probes, failures, mean, most, left = 0, 0, 0, 0, 0
  if #raw == RECORD and string.match(raw, '^%d+$') and tonumber(string.sub(raw, 1, 10)) == number then
    probes, failures = tonumber(string.sub(raw, 11, 15)), tonumber(string.sub(raw, 16, 20))
    mean, most = tonumber(string.sub(raw, 21, 28)), tonumber(string.sub(raw, 29, 36))
    left = tonumber(string.sub(raw, 37, 41))
  end
  if probes >= 99999 then
    return
  end
  probes = probes + 1
  if ok then
    local succeeded = math.max(1, probes - failures)
    mean = math.floor(mean + (us - mean) / succeeded + 0.5)
    most = math.max(most, us)
    left = days
  else
    failures = math.min(probes, failures + 1)
  end
  redis.call('SETRANGE', past, at,
    string.format('%010d%05d%05d%08d%08d%05d', number, probes, failures, mean, most, left))
end

local function is_from(value, least, most)
  return type(value) == 'number' and value >= least and value <= most
end

local function is_word(value)
  return type(value) == 'string' and #value <= 200
end

-- Return the latest item of a list of failures while it is open, otherwise nil. Only what we wrote is taken over.
local function open_item(failures)
  local is_json, item = pcall(cjson.decode, redis.call('LINDEX', failures, 0) or '')
  if is_json and type(item) == 'table' and item.open == true and is_word(item.stage) and is_word(item.error)
      and is_from(item.since, 0, 1e11) and is_from(item['until'], 0, 1e11) and is_from(item.count, 1, 1e9) then
    return { since = item.since, ['until'] = item['until'], count = item.count, stage = item.stage, error = item.error,
      open = true }
  end
end

-- Note a success, or a failure at a stage for a reason, in a list of failures.
local function note(failures, ts, ok, stage, reason)
  local item = open_item(failures)
  if item and not ok and item.stage == stage and item.error == reason then
    -- a clock that was set back moves the beginning, too
    item.since, item['until'], item.count = math.min(item.since, ts), ts, item.count + 1
    redis.call('LSET', failures, 0, cjson.encode(item))
    return
  end
  if item then
    item.open = false
    redis.call('LSET', failures, 0, cjson.encode(item))
  end
  if not ok then
    item = { since = ts, ['until'] = ts, count = 1, stage = stage, error = reason, open = true }
    redis.call('LPUSH', failures, cjson.encode(item))
    redis.call('LTRIM', failures, 0, ARGV[3] - 1)
  end
end

-- If the bus took a batch and its answer was lost, it comes again, perhaps with more results behind it. What is the latest
-- of its target already was published, and so was all before it.
local published = {}
for at = 4, #ARGV, 10 do
  local latest = KEYS[tonumber(ARGV[at])]
  if redis.pcall('STRLEN', latest) == #ARGV[at + 3] and redis.call('GET', latest) == ARGV[at + 3] then
    published[ARGV[at]] = at
  end
end

local seen = {}
for at = 4, #ARGV, 10 do
  if at > (published[ARGV[at]] or 0) then
    local first = tonumber(ARGV[at])
    local latest, past, failures = KEYS[first], KEYS[first + 1], KEYS[first + 2]
    -- first the stream: a server without memory refuses that, and then nothing was written
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(cjson.decode(ARGV[at + 2])))
    redis.call('SET', latest, ARGV[at + 3], 'PX', ARGV[at + 1])
    if not seen[first] then
      open_past(past)
      keep_only(failures, 'list')
      seen[first] = true
    end
    local ts, ok, from = tonumber(ARGV[at + 4]), ARGV[at + 5] == '1', 0
    for _, ring in ipairs(RINGS) do
      count(past, from, ring, ts, ok, tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]))
      from = from + RECORD * ring[2]
    end
    note(failures, ts, ok, ARGV[at + 8], ARGV[at + 9])
    redis.call('EXPIRE', past, ARGV[2])
    redis.call('EXPIRE', failures, ARGV[2])
  end
end
return 1
