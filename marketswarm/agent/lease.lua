-- One word about a lease: KEYS[1] is the lease, a hash that ends by itself, KEYS[2] its last epoch. ARGV:
--   word  take, renew or give
--   claim who asks: one process, one call
--   boot, svc  whose process that is, for people
--   life  of the lease from now on, in milliseconds
-- Returns the epoch, 0 when it is not the asker's; for how long it is somebody's, in milliseconds; who that is; and
-- what was there and could not be used, '' for nothing: any service may write there.
-- That it was given back is told on the channel of the lease's name.

-- include: marketswarm.bus/lease.lua

local key, word, claim, life = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])
local remembered = 30 * 86400000
local longest = 86400000 -- of any lease
local unusable = ''

-- a key of another kind is nobody's: it goes
local function expect(name, kind)
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', name)
    unusable = 'a ' .. found
  end
end

local function epoch_of(value)
  if not value then
    return 0
  end
  local found = whole_number(value, 0)
  if not found then
    unusable = 'the epoch ' .. string.sub(value, 1, 40)
  end
  return found
end

local function answer(epoch, left_ms, holder)
  return { epoch, left_ms, shown(holder), unusable }
end

expect(key, 'hash')
local found = redis.call('HMGET', key, 'claim', 'epoch', 'boot', 'svc')
local epoch = epoch_of(found[2])
local mine = found[1] == claim and (epoch or 0) > 0

if word == 'give' then
  if mine then
    redis.call('DEL', key)
    redis.call('PUBLISH', key, 'free')
  end
  return answer(0, 0, '')
end

if mine then
  redis.call('PEXPIRE', key, life)
  return answer(string.format('%.0f', epoch), life, ARGV[3])
end

if redis.call('EXISTS', key) == 1 and epoch and found[1] ~= claim then
  return answer(0, remaining_ms(key, life, longest), (found[4] or '?') .. ' ' .. (found[3] or '?'))
end
if word == 'renew' then
  return answer(0, 0, '') -- whoever had it meanwhile, it is not the same lease any more
end

-- an epoch is at least the time: it grows even where the last one was lost with all the server's data
local time = redis.call('TIME')
expect(KEYS[2], 'string')
local last = epoch_of(redis.call('GET', KEYS[2])) or 0
epoch = string.format('%.0f', math.max(last + 1, time[1] * 1000 + math.floor(time[2] / 1000)))
redis.call('SET', KEYS[2], epoch, 'PX', remembered)
redis.call('HSET', key, 'claim', claim, 'boot', ARGV[3], 'svc', ARGV[4], 'epoch', epoch)
redis.call('PEXPIRE', key, life)
return answer(epoch, life, ARGV[3])
