-- Takes, renews or releases a lease. KEYS[1] is the lease, a hash with a time to live; KEYS[2] holds its last
-- epoch. KEYS[3], if it is given, is the lease for which processes of an older release ask: the holder of this one
-- takes it from them and keeps it, so that they wait. What it holds decides nothing here, but that one who took it in
-- this millisecond has an epoch below ours. ARGV:
--   word  take, renew or give
--   claim the id of the request: one for each `Lease` object of a process
--   boot, svc  the boot and service of that process, for people
--   life  of the lease from now on, in milliseconds. It is stored, too: a lease that lasts longer was taken by a clock
--         that was ahead, or others wrote there, and it ends after its life
-- Returns four values: the epoch, 0 if the claim does not hold the lease; the milliseconds for which the lease is
-- held; its holder, '' for none; and a stored value that could not be used, '' for none: others may write there.
-- A release is published on the channel with the lease's name.

-- include: marketswarm.bus/lease.lua

local key, word, claim, life = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])
local remembered = 30 * 86400000
local longest = 86400000 -- of any lease, also of one of a release that does not store its life
local unusable = ''

-- Deletes a key of another type than `kind`, and notes it as unusable.
local function expect(name, kind)
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', name)
    unusable = 'a ' .. found
  end
end

-- Returns the epoch in a stored value, 0 without a value; nil, noted as unusable, for anything else.
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

local function write(name, found_epoch)
  redis.call('HSET', name, 'claim', claim, 'boot', ARGV[3], 'svc', ARGV[4], 'epoch', found_epoch, 'life', life)
  redis.call('PEXPIRE', name, life)
end

local function keep_former(found_epoch)
  if KEYS[3] then
    expect(KEYS[3], 'hash')
    write(KEYS[3], found_epoch)
  end
end

local function give(name)
  redis.call('DEL', name)
  redis.call('PUBLISH', name, 'free')
end

expect(key, 'hash')
local found = redis.call('HMGET', key, 'claim', 'epoch', 'boot', 'svc', 'life')
local epoch = epoch_of(found[2])
local mine = found[1] == claim and (epoch or 0) > 0

if word == 'give' then
  if mine then
    give(key)
    if KEYS[3] and redis.call('TYPE', KEYS[3]).ok == 'hash' and redis.call('HMGET', KEYS[3], 'claim')[1] == claim then
      give(KEYS[3])
    end
  end
  return answer(0, 0, '')
end

if mine then
  redis.call('PEXPIRE', key, life)
  keep_former(string.format('%.0f', epoch))
  return answer(string.format('%.0f', epoch), life, ARGV[3])
end

if redis.call('EXISTS', key) == 1 and epoch and found[1] ~= claim then
  local its_life = whole_number(found[5], 1)
  local left = remaining_ms(key, math.min(its_life or life, longest), math.min(its_life or longest, longest))
  return answer(0, left, (found[4] or '?') .. ' ' .. (found[3] or '?'))
end
if word == 'renew' then
  return answer(0, 0, '') -- the lease was lost meanwhile: only `take` begins a new one
end

-- an epoch is at least the time in ms: it grows even if the server lost the last one with all its data
local time = redis.call('TIME')
expect(KEYS[2], 'string')
local last = epoch_of(redis.call('GET', KEYS[2])) or 0
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if KEYS[3] and redis.call('TYPE', KEYS[3]).ok == 'hash' then
  if whole_number(redis.call('HMGET', KEYS[3], 'epoch')[1], 0) == now then
    last = math.max(last, now)
  end
end
epoch = string.format('%.0f', math.max(last + 1, now))
redis.call('SET', KEYS[2], epoch, 'PX', remembered)
write(key, epoch)
keep_former(epoch)
return answer(epoch, life, ARGV[3])
