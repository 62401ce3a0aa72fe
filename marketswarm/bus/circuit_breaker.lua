-- Open, close, try and pause the circuit breaker of something that may fail, such as a source. It is on the bus, so that all instances share it and a restart
-- does not begin anew.
--
-- KEYS  1   the breaker: a hash with `failures` in a row, `opened` (epoch ms), `open_ms` (for how long it is open),
--           `trial` (until when one instance tries, epoch ms), `paused` (until when the source is paused, epoch ms; -1:
--           until it is resumed), `pause_length` (that and for how long it is), `paused_by` and `paused_at` if the medic
--           paused it; no key while the source is well
-- ARGV  1   ask, read (ask without a trial), ok, fail, fail_trial, pause or resume
--       2   failures in a row that open it
--       3   for how many ms it is open first; that doubles with each failed trial
--       4   the longest time for which it is open, in ms
--       5   milliseconds for which a trial may take
--       6   of pause: for how many milliseconds; -1: until it is resumed
-- Returns {state, milliseconds until it may be tried}; the state is closed, open, paused (then -1: until it is resumed),
-- or half_open: the caller is to try.
-- include: pause_end.lua
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stored = redis.call('HMGET', KEYS[1], 'failures', 'opened', 'open_ms', 'trial', 'paused', 'pause_length')
local failures, opened, open_ms, trial, paused = tonumber(stored[1] or 0) or 0, tonumber(stored[2] or 0) or 0,
  tonumber(stored[3] or 0) or 0, tonumber(stored[4] or 0) or 0, tonumber(stored[5] or 0) or 0
if opened > now then -- the server's clock was set back; this is written, since a limit that moves with `now` ends never
  opened = now
  redis.call('HSET', KEYS[1], 'opened', string.format('%.0f', opened))
end
if paused > now and bound_end(paused, stored[6], now, math.huge) < paused then
  local ends = bound_end(paused, stored[6], now, math.huge)
  redis.call('HSET', KEYS[1], 'paused', string.format('%.0f', ends), 'pause_length', write_length(ends, ends - now))
  paused = ends
end
-- one that is not asked any more is forgotten, long after the longest time for which it is open
local kept_ms = math.max(tonumber(ARGV[4]) * 4, 86400000)

local function expire()
  if paused == -1 then
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('PEXPIRE', KEYS[1], string.format('%d', math.max(kept_ms, paused - now)))
  end
end

if ARGV[1] == 'pause' then
  paused = tonumber(ARGV[6]) < 0 and -1 or now + tonumber(ARGV[6])
  redis.call('HDEL', KEYS[1], 'pause_length', 'paused_by', 'paused_at')
  redis.call('HSET', KEYS[1], 'paused', string.format('%d', paused))
  if paused ~= -1 then
    redis.call('HSET', KEYS[1], 'pause_length', write_length(paused, ARGV[6]))
  end
  expire()
  return {'paused', tonumber(ARGV[6])}
end
if ARGV[1] == 'resume' then -- and what failed before is forgotten: it is to be tried at once
  redis.call('DEL', KEYS[1])
  return {'closed', 0}
end
if paused ~= -1 and paused <= now then
  redis.call('HDEL', KEYS[1], 'paused', 'pause_length', 'paused_by', 'paused_at')
  paused = 0
end
if ARGV[1] == 'ok' then
  redis.call('HDEL', KEYS[1], 'failures', 'opened', 'open_ms', 'trial')
  return {paused == 0 and 'closed' or 'paused', paused > 0 and paused - now or paused}
end
if ARGV[1] == 'fail' and open_ms > 0 then -- it was let through before the breaker opened
  return {'open', math.floor(math.max(0, opened + open_ms - now))}
end
if ARGV[1] == 'fail' or ARGV[1] == 'fail_trial' then
  failures = failures + 1
  local beyond = failures - tonumber(ARGV[2])
  if beyond >= 0 then
    open_ms = math.min(tonumber(ARGV[3]) * 2 ^ math.min(beyond, 30), tonumber(ARGV[4]))
    redis.call('HSET', KEYS[1], 'failures', failures, 'opened', now, 'open_ms', string.format('%d', open_ms), 'trial', 0)
  else
    redis.call('HSET', KEYS[1], 'failures', failures)
  end
  expire()
  return {beyond >= 0 and 'open' or 'closed', beyond >= 0 and math.floor(open_ms) or 0}
end
if paused ~= 0 then
  return {'paused', paused > 0 and paused - now or -1}
end
if open_ms == 0 then
  return {'closed', 0}
end
if now < opened + open_ms then
  return {'open', math.floor(opened + open_ms - now)}
end
if trial > now and trial - now <= tonumber(ARGV[5]) then
  return {'open', math.floor(trial - now)}
end
if ARGV[1] == 'ask' then
  redis.call('HSET', KEYS[1], 'trial', now + tonumber(ARGV[5]))
end
return {'half_open', 0}
