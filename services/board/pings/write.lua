-- Puts pings on the bus of their services, each with its beat.
--
-- KEYS: for each ping the stream of its service, the key of the last beat, and that of the last run.
-- ARGV: about how many pings a stream keeps; a JSON list with a list of texts for each ping; then the body of each.
-- Those texts are the ping's channel, its beat, the life of its stream (milliseconds; '' leaves it), the life of the
-- last beat ('' if the ping is not a sign of life), the last run ('' if it ends none), the life of that; then the names and
-- values of its entry. A body is a field of its entry, unless it is empty.
-- Returns two lists: the numbers of the pings that were not taken, each with the server's error, and the numbers of those
-- whose stream was deleted and begun anew, since an entry with the last possible id had ended it.

local failed, anew = {}, {}

-- Returns true if a reply is the error of XADD after an entry with the last possible id.
local function is_ended(reply)
  local why = type(reply) == 'table' and reply.err and tostring(reply.err)
  return why and (string.find(why, 'smaller', 1, true) or string.find(why, 'exhausted', 1, true))
end

for number, ping in ipairs(cjson.decode(ARGV[2])) do
  local stream, beat_key, run_key = KEYS[3 * number - 2], KEYS[3 * number - 1], KEYS[3 * number]
  local channel, beat, life, beat_life, run, run_life = unpack(ping, 1, 6)
  local entry = { 'XADD', stream, 'MAXLEN', '~', ARGV[1], '*' }
  for at = 7, #ping do
    entry[#entry + 1] = ping[at]
  end
  if ARGV[number + 2] ~= '' then
    entry[#entry + 1] = 'body'
    entry[#entry + 1] = ARGV[number + 2]
  end
  local commands = { entry }
  if life ~= '' then
    commands[#commands + 1] = { 'PEXPIRE', stream, life }
  end
  if beat_life ~= '' then
    commands[#commands + 1] = { 'SET', beat_key, beat, 'PX', beat_life }
  end
  if run ~= '' then
    commands[#commands + 1] = { 'SET', run_key, run, 'PX', run_life }
  end
  commands[#commands + 1] = { 'PUBLISH', channel, beat }
  for _, command in ipairs(commands) do
    local reply = redis.pcall(unpack(command))
    if command == entry and is_ended(reply) then
      reply = redis.pcall('DEL', stream)
      if type(reply) == 'number' then
        reply = redis.pcall(unpack(entry))
        redis.pcall('PEXPIRE', stream, run_life)
        anew[#anew + 1] = number
      end
    end
    if type(reply) == 'table' and reply.err then
      failed[#failed + 1] = number
      failed[#failed + 1] = reply.err
      break
    end
  end
end
return { failed, anew }
