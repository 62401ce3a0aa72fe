-- Keeps what is known of some targets and tells what follows from it: all of it, or nothing.
--
-- KEYS: the roster, the stream of events.
-- ARGV: the stream's length, how many targets, for each of them three values, then the events.
--   field     in the roster
--   expected  what it holds as far as we know, '' for nothing
--   value     what it is to hold, '' to forget it
-- Returns 1 (done) or 0 (somebody was here before: look again).

local roster, stream = KEYS[1], KEYS[2]
local length, count = ARGV[1], tonumber(ARGV[2])
local first_event = 3 + 3 * count

for at = 3, first_event - 1, 3 do
  if (redis.call('HGET', roster, ARGV[at]) or '') ~= ARGV[at + 1] then
    return 0
  end
end

local written, kept = {}, {}

local function undo(refusal)
  for _, id in ipairs(written) do
    redis.pcall('XDEL', stream, id)
  end
  for _, at in ipairs(kept) do
    if ARGV[at + 1] == '' then
      redis.pcall('HDEL', roster, ARGV[at])
    else
      redis.pcall('HSET', roster, ARGV[at], ARGV[at + 1])
    end
  end
  return refusal
end

local function refused(reply)
  return type(reply) == 'table' and reply.err
end

for at = first_event, #ARGV do
  local id = redis.pcall('XADD', stream, 'MAXLEN', '~', length, '*', 'event', ARGV[at])
  if refused(id) then
    return undo(id)
  end
  written[#written + 1] = id
end
for at = 3, first_event - 1, 3 do
  local reply
  if ARGV[at + 2] == '' then
    reply = redis.pcall('HDEL', roster, ARGV[at])
  else
    reply = redis.pcall('HSET', roster, ARGV[at], ARGV[at + 2])
  end
  if refused(reply) then
    return undo(reply)
  end
  kept[#kept + 1] = at
end
return 1
