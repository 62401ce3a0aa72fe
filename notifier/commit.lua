-- Stores one transaction of the notifier on one bus, as a whole or not at all.
-- KEYS: lease     notifier:lease, a string
--       state     notifier:state, a hash
--       dead      notifier:dead, a stream of dead letters
--       log       healer:alerts:log, a stream
--       asks      notifier:asks, a stream of operators' requests
--       then the keys of the delivery records (notifier:told:{event id}), then the keys of the answers.
-- ARGV: boot      the boot id of the caller; if another one holds the lease, nothing is stored
--       term      the id of the caller's term
--       is_whole  '1' if the fields are the whole state, '' if they are changes
--       held_by   who wrote the state that is on this bus as far as the caller knows, and that its own includes
--       held_seq  the `seq` of that state; both '' for a bus without a state
--       seq       the `seq` of the state afterwards
--       group     the consumer group of log and asks
--       told_sec      how long delivery records are kept, in seconds
--       answers_sec   how long answers are kept after the last one, in seconds
--       dead_length   about how many dead letters are kept
-- and then, each list after its length:
--       the delivery records, one for each of their keys
--       the answers: for each of their keys a list of lines to append
--       fields of the state with their values
--       fields of the state to delete
--       dead letters to add (message, channel, reason and ts of each)
--       ids of dead letters to delete
--       ids of entries of log to acknowledge
--       ids of entries of asks to acknowledge
-- Returns 1 if it was stored; -1 if another one holds the lease; and if the bus holds another state than the caller
-- knows of, nothing is stored: the reply is who wrote that state, and its `seq`.

local lease, state, dead, log, asks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local boot, term, is_whole, held_by, held_seq = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5]
local seq, group, told_sec, answers_sec, dead_length = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local at, key = 11, 6

-- Returns the next argument. Raises an error if there is none, so that a wrong length can't make a loop run on.
local function take()
  at = at + 1
  return ARGV[at - 1] or error('a list that is longer than what is given')
end

-- Returns the next argument as a number: the length of the list that follows it.
local function count()
  return tonumber(take())
end

-- Runs a reading command and returns its reply, or nil for no value and for an error, such as a key of another type.
local function held(...)
  local found = redis.pcall(...)
  return type(found) ~= 'table' and found or nil
end

local holder = held('GET', lease)
if holder and holder ~= boot then
  return -1
end
local stored_by, stored_seq = held('HGET', state, 'by') or '', held('HGET', state, 'seq') or ''
if stored_by ~= held_by or stored_seq ~= held_seq then
  return { stored_by, stored_seq }
end
if is_whole then
  -- a bus out of memory refuses here, before anything is deleted; a key that is not a hash is deleted below
  local refusal = redis.pcall('HSET', state, 'seq', seq)
  if type(refusal) == 'table' and not string.find(refusal.err, 'WRONGTYPE') then
    return refusal
  end
  redis.call('DEL', state)
end

-- this is the first write, so a bus out of memory refuses the whole transaction
redis.call('HSET', state, 'seq', seq, 'by', term)

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

-- Adds a dead letter; returns its id, or a table if the command failed.
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
