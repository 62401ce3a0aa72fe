-- Open, close and try a source's circuit breaker. It is on the bus, so that all instances share it and a restart does
-- not begin anew.
--
-- KEYS  1   the breaker: a hash with `failures` in a row, `opened` (epoch ms), `pause` (ms), `trial` (until when one
--           instance tries, epoch ms); no key while the source is well
-- ARGV  1   ask, ok or fail
--       2   failures in a row that open it
--       3   the first pause, in ms; it doubles with each further failure
--       4   the longest pause, in ms
--       5   milliseconds for which a trial may take
-- Returns {state, milliseconds until it may be tried}; the state is closed, open, or half_open: the caller is to try.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[1] == 'ok' then
  redis.call('DEL', KEYS[1])
  return {'closed', 0}
end
local stored = redis.call('HMGET', KEYS[1], 'failures', 'opened', 'pause', 'trial')
local failures, opened, pause, trial =
  tonumber(stored[1] or 0) or 0, tonumber(stored[2] or 0) or 0, tonumber(stored[3] or 0) or 0, tonumber(stored[4] or 0) or 0
if opened > now then -- the server's clock was set back
  opened = now
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
  -- one that nobody asks any more is forgotten, long after its longest pause
  redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[4]) * 4, 86400000))
  return {beyond >= 0 and 'open' or 'closed', beyond >= 0 and math.floor(pause) or 0}
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
redis.call('HSET', KEYS[1], 'trial', now + tonumber(ARGV[5]))
return {'half_open', 0}
