-- One turn of the notifier made lasting on one bus, all of it or nothing.
-- KEYS: lease, state, dead, log, asks, then the keys of events that were told, then those of answers.
-- ARGV: boot      who writes; another holder of the lease turns it away
--       base      the `seq` that the state here must have for the fields to be changes of it; '' for the whole state
--       seq       that it has afterwards
--       group     the consumer group of log and asks
--       told_sec, answers_sec, dead_length
-- and then, each list after its length: values of what was told; answers, a list of lines for each key; fields and
-- their values; fields that are gone; dead (message, channel, reason, ts each); ids of dead that go again; ids of the
-- log's entries that are done; ids of asks that are done.
-- Returns 1; 0 when the state here is not at `base`; -1 when another one holds the lease.

local lease, state, dead, log, asks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local boot, base, seq, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local told_sec, answers_sec, dead_length = ARGV[5], ARGV[6], ARGV[7]
local at, key = 8, 6

-- a list that is longer than what is given ends the script: no refused command may go on for as long as it says
local function take()
  at = at + 1
  return ARGV[at - 1] or error('a list that is longer than what is given')
end

local function count()
  return tonumber(take())
end

-- what somebody else wrote under our keys counts as nothing
local function held(...)
  local found = redis.pcall(...)
  return type(found) ~= 'table' and found or nil
end

local holder = held('GET', lease)
if holder and holder ~= boot then
  return -1
end
if base == '' then
  -- a full bus refuses here, before anything is taken away; what is no hash goes
  local refusal = redis.pcall('HSET', state, 'seq', seq)
  if type(refusal) == 'table' and not string.find(refusal.err, 'WRONGTYPE') then
    return refusal
  end
  redis.call('DEL', state)
elseif held('HGET', state, 'seq') ~= base then
  return 0
end

-- first of all, so that a full bus refuses everything
redis.call('HSET', state, 'seq', seq, 'by', boot)

for _ = 1, count() do
  redis.call('SET', KEYS[key], take(), 'EX', told_sec)
  key = key + 1
end
for _ = 1, count() do
  for _ = 1, count() do
    redis.pcall('RPUSH', KEYS[key], take())
  end
  redis.pcall('EXPIRE', KEYS[key], answers_sec)
  key = key + 1
end
for _ = 1, count() do
  local field = take()
  redis.call('HSET', state, field, take())
end
for _ = 1, count() do
  redis.call('HDEL', state, take())
end

local function bury(message, channel, reason, ts)
  return redis.pcall('XADD', dead, 'MAXLEN', '~', dead_length, '*', 'message', message, 'channel', channel,
    'reason', reason, 'ts', ts)
end
for _ = 1, count() do
  local message, channel, reason, ts = take(), take(), take(), take()
  if type(bury(message, channel, reason, ts)) == 'table' then
    redis.call('DEL', dead)
    bury(message, channel, reason, ts)
  end
end
for _ = 1, count() do
  redis.pcall('XDEL', dead, take())
end
for _ = 1, count() do
  redis.pcall('XACK', log, group, take())
end
for _ = 1, count() do
  redis.pcall('XACK', asks, group, take())
end
return 1
