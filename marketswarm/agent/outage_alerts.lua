-- Save the states of some targets and publish the events that follow: all of it, or nothing.
--
-- KEYS  1  the roster: a hash, target -> state (JSON)
--       2  the stream of events
-- ARGV  1  length of the stream, about
--       2  number of targets; then for each target three values:
--            its field in the roster
--            its state as the caller read it, '' for none
--            its new state, '' to delete it
--       then the events (JSON)
-- Returns 1 if it is done; 0 if a state is not what the caller read: nothing was written, read again. If the server
-- refuses a write, what was written before it is undone, and the server's error is returned.

local roster, stream = KEYS[1], KEYS[2]
local length, count = ARGV[1], tonumber(ARGV[2])
local first_event = 3 + 3 * count

for at = 3, first_event - 1, 3 do
  if (redis.call('HGET', roster, ARGV[at]) or '') ~= ARGV[at + 1] then
    return 0
  end
end

local published, saved = {}, {}

-- Undo what was written so far, and return the server's error.
local function undo(refusal)
  for _, id in ipairs(published) do
    redis.pcall('XDEL', stream, id)
  end
  for _, at in ipairs(saved) do
    if ARGV[at + 1] == '' then
      redis.pcall('HDEL', roster, ARGV[at])
    else
      redis.pcall('HSET', roster, ARGV[at], ARGV[at + 1])
    end
  end
  return refusal
end

-- Return a true value if the reply of a command is an error.
local function is_refused(reply)
  return type(reply) == 'table' and reply.err
end

for at = first_event, #ARGV do
  local id = redis.pcall('XADD', stream, 'MAXLEN', '~', length, '*', 'event', ARGV[at])
  if is_refused(id) then
    return undo(id)
  end
  published[#published + 1] = id
end
for at = 3, first_event - 1, 3 do
  local reply
  if ARGV[at + 2] == '' then
    reply = redis.pcall('HDEL', roster, ARGV[at])
  else
    reply = redis.pcall('HSET', roster, ARGV[at], ARGV[at + 2])
  end
  if is_refused(reply) then
    return undo(reply)
  end
  saved[#saved + 1] = at
end
return 1
