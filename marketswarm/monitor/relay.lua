-- include: fence.lua
-- Copies events from a service's stream to the log and the channel of alerts: all of them, or none.
--
-- KEYS: the lease, the positions, the log.
-- ARGV: the fence, the log's length, the channel, the stream's field in the positions, the position that is stored
-- there as far as the caller knows ('' for none), the new position, then the events.
-- Returns -1 (not the leader), 0 (another position is stored, so nothing is copied), 1 (copied) or 2 (copied, but
-- the channel was refused); or the server's error for a write, and then nothing is copied.

local positions, log = KEYS[2], KEYS[3]
local length, channel, field, expected, position = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

-- Returns the text of an error reply; false or nil for any other reply.
local function refused(reply)
  return type(reply) == 'table' and reply.err
end

if (redis.call('HGET', positions, field) or '') ~= expected then
  return 0
end
local written = {}
local failed
for at = 8, #ARGV do
  local id = redis.pcall('XADD', log, 'MAXLEN', '~', length, '*', 'event', ARGV[at])
  if refused(id) then
    failed = id
    break
  end
  written[#written + 1] = id
end
if not failed then
  local reply = redis.pcall('HSET', positions, field, position)
  failed = refused(reply) and reply or nil
end
if failed then
  for _, id in ipairs(written) do
    redis.pcall('XDEL', log, id)
  end
  return failed
end
local outcome = 1
for at = 8, #ARGV do
  -- a channel that the ACL refuses must not undo the events on the log
  if refused(redis.pcall('PUBLISH', channel, ARGV[at])) then
    outcome = 2
  end
end
return outcome
