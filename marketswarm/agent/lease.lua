-- One word about a lease: KEYS[1] is the lease, a hash that ends by itself, KEYS[2] its last epoch. ARGV:
--   word  take, renew or give
--   claim who asks: one process, one call
--   boot, svc  whose process that is, for people
--   life  of the lease from now on, in milliseconds
-- Returns the epoch, 0 when it is not the asker's; for how long it is somebody's, in milliseconds; who that is.
-- That it was given back is told on the channel of the lease's name.

local key, word, claim = KEYS[1], ARGV[1], ARGV[2]
local remembered = 30 * 86400000

local found = redis.call('HMGET', key, 'claim', 'epoch', 'boot', 'svc')
local mine = found[1] == claim
local epoch = tonumber(found[2] or '0') or 0

if word == 'give' then
  if mine then
    redis.call('DEL', key)
    redis.call('PUBLISH', key, 'free')
  end
  return { 0, 0, '' }
end

if mine then
  redis.call('PEXPIRE', key, ARGV[5])
  return { string.format('%.0f', epoch), tonumber(ARGV[5]), ARGV[3] }
end

if redis.call('EXISTS', key) == 1 then
  if redis.call('PTTL', key) < 0 then
    redis.call('PEXPIRE', key, ARGV[5]) -- someone took its end away, or wrote it by hand: it gets one
  end
  return { 0, redis.call('PTTL', key), (found[4] or '?') .. ' ' .. (found[3] or '?') }
end
if word == 'renew' then
  return { 0, 0, '' } -- whoever had it meanwhile, it is not the same lease any more
end

-- an epoch is at least the time: it grows even where the last one was lost with all the server's data
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
epoch = string.format('%.0f', math.max(last + 1, time[1] * 1000 + math.floor(time[2] / 1000)))
redis.call('SET', KEYS[2], epoch, 'PX', remembered)
redis.call('HSET', key, 'claim', claim, 'boot', ARGV[3], 'svc', ARGV[4], 'epoch', epoch)
redis.call('PEXPIRE', key, ARGV[5])
return { epoch, tonumber(ARGV[5]), ARGV[3] }
