-- Read the clock of a recording that is played, and begin it where there is none. All instances share it: each tells
-- the same time by it, and so does one that was started anew.
--
-- KEYS  1     the clock: a hash of "digest", "start", "speed", "begun" (epoch ms) and "elapsed" (ms that had been
--             played at "begun")
-- ARGV  1     the digest of the recording, 2 how fast it is played, 3 how many ms after its beginning it starts
-- Returns when it began (epoch ms), how many ms had been played then, what time it is (epoch ms), and 1 if a clock that
-- was running began anew, else 0. Another recording or another start begins anew; another speed goes on from where the
-- clock is.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stored = redis.call('HMGET', KEYS[1], 'digest', 'start', 'speed', 'begun', 'elapsed')
local speed, begun, elapsed = tonumber(stored[3] or ''), tonumber(stored[4] or ''), tonumber(stored[5] or '')

local is_anew = 0
if stored[1] ~= ARGV[1] or stored[2] ~= ARGV[3] or not (speed and begun and elapsed) then
  is_anew = stored[1] and 1 or 0
  begun, elapsed = now, tonumber(ARGV[3])
elseif stored[3] ~= ARGV[2] then
  -- not back, if the server's clock was set back
  begun, elapsed = now, elapsed + math.floor(math.max(0, now - begun) * speed)
else
  return { begun, elapsed, now, is_anew }
end
redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'start', ARGV[3], 'speed', ARGV[2], 'begun', string.format('%d', begun),
  'elapsed', string.format('%d', elapsed))
return { begun, elapsed, now, is_anew }
