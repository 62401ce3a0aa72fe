-- Open, close, try and hold a source's circuit breaker. It is on the bus, so that all instances share it and a restart
-- does not begin anew.
--
-- KEYS  1   the breaker: a hash with `failures` in a row, `opened` (epoch ms), `pause` (ms), `trial` (until when one
--           instance tries, epoch ms), `held` (until when an operator holds it open, epoch ms; -1: until it is
--           released); no key while the source is well
-- ARGV  1   ask, look (ask without a trial), ok, fail, hold or release
--       2   failures in a row that open it
--       3   the first pause, in ms; it doubles with each further failure
--       4   the longest pause, in ms
--       5   milliseconds for which a trial may take
--       6   of hold: for how many milliseconds; -1: until it is released
-- Returns {state, milliseconds until it may be tried}; the state is closed, open, held (then -1: until it is released),
-- or half_open: the caller is to try.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stored = redis.call('HMGET', KEYS[1], 'failures', 'opened', 'pause', 'trial', 'held')
local failures, opened, pause, trial, held = tonumber(stored[1] or 0) or 0, tonumber(stored[2] or 0) or 0,
  tonumber(stored[3] or 0) or 0, tonumber(stored[4] or 0) or 0, tonumber(stored[5] or 0) or 0
if opened > now then -- the server's clock was set back
  opened = now
end
-- one that nobody asks any more is forgotten, long after its longest pause
local kept_ms = math.max(tonumber(ARGV[4]) * 4, 86400000)

local function expire()
  if held == -1 then
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('PEXPIRE', KEYS[1], string.format('%d', math.max(kept_ms, held - now)))
  end
end

if ARGV[1] == 'hold' then
  held = tonumber(ARGV[6]) < 0 and -1 or now + tonumber(ARGV[6])
  redis.call('HSET', KEYS[1], 'held', string.format('%d', held))
  expire()
  return {'held', tonumber(ARGV[6])}
end
if ARGV[1] == 'release' then -- and what failed before is forgotten: it is to be tried at once
  redis.call('DEL', KEYS[1])
  return {'closed', 0}
end
if held ~= -1 and held <= now then
  redis.call('HDEL', KEYS[1], 'held')
  held = 0
end
if ARGV[1] == 'ok' then
  redis.call('HDEL', KEYS[1], 'failures', 'opened', 'pause', 'trial')
  return {held == 0 and 'closed' or 'held', held > 0 and held - now or held}
end
if ARGV[1] == 'fail' then
  failures = failures + 1
  local beyond = failures - tonumber(ARGV[2])
  if beyond >= 0 then
    pause = math.min(tonumber(ARGV[3]) * 2 ^ math.min(beyond, 30), tonumber(ARGV[4]))
    redis.call('HSET', KEYS[1], 'failures', failures, 'opened', now, 'pause', string.format('%d', pause), 'trial', 0)
  else
    redis.call('HSET', KEYS[1], 'failures', failures)
  end
  expire()
  return {beyond >= 0 and 'open' or 'closed', beyond >= 0 and math.floor(pause) or 0}
end
if held ~= 0 then
  return {'held', held > 0 and held - now or -1}
end
if pause == 0 then
  return {'closed', 0}
end
if now < opened + pause then
  return {'open', math.floor(opened + pause - now)}
end
if trial > now and trial - now <= tonumber(ARGV[5]) then
  return {'open', math.floor(trial - now)}
end
if ARGV[1] == 'ask' then
  redis.call('HSET', KEYS[1], 'trial', now + tonumber(ARGV[5]))
end
return {'half_open', 0}
