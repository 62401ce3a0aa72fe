-- Pause a source in the name of the medic, unless it is paused already or the request comes too late.
--
-- KEYS  1  the breaker of the source (marketswarm/bus/circuit_breaker.lua)
-- ARGV  1  the end of the lease, in milliseconds by the clock of this server
--       2  for how many ms
-- Returns 1 if it did, 0 if it is paused already, -1 if it came too late.
-- include: in_time.lua
-- include: marketswarm.bus/pause_end.lua
if is_late(ARGV[1]) then
  return -1
end
local time = redis.call('TIME')
local now, pause_ms = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[2])
local paused = tonumber(redis.call('HGET', KEYS[1], 'paused') or 0) or 0
if paused == -1 or paused > now then
  return 0
end
redis.call('HSET', KEYS[1], 'paused', string.format('%d', now + pause_ms), 'paused_by', 'medic',
  'paused_at', string.format('%d', now), 'pause_length', write_length(now + pause_ms, pause_ms))
-- what else the breaker has is kept for a day after it was used last
redis.call('PEXPIRE', KEYS[1], string.format('%d', math.max(86400000, pause_ms)))
return 1
