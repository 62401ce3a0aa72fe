-- Takes, renews, releases or only reads a healer's lease. KEYS[1] is the lease, a hash. ARGV:
--   boot     the healer that sends the request
--   epoch    with which it holds the lease, as far as it knows; 0 for not at all
--   least    the least epoch of a new lease
--   carried  its epoch on the bus `home`, which takes the lease here if it is greater; 0 for none
--   may_take 1 to take a lease that is free or stale, or whose holder hears less than `boot`: it is deaf
--            to a bus that `boot` hears, and hears none that `boot` does not
--   stale    `<epoch>.<renewed>` of a lease that `boot` saw unchanged for its whole life, '' for none
--   deaf     the buses that `boot` does not hear, '' for none
--   life     of the lease, in seconds
--   give     1 to release it
-- Returns boot, epoch, renewed, deaf, life as they are afterwards; epoch, renewed and life as strings.
--
-- The field `until` is for people only: no clock is compared, here or elsewhere.

-- include: marketswarm.bus/lease.lua
local key = KEYS[1]
local boot, epoch, least, carried = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local may_take, stale, deaf, life, give = ARGV[5] == '1', ARGV[6], ARGV[7], ARGV[8], ARGV[9] == '1'

local held = redis.call('HMGET', key, 'boot', 'epoch', 'renewed', 'deaf', 'lease_sec')
local holder = held[1] or ''
local current = whole_number(held[2], 0) or 0
local renewed = whole_number(held[3], 0) or 0
local lease_sec = (tonumber(held[5]) or -1) >= 0 and tonumber(held[5]) < 2 ^ 53 and held[5] or life
local mine = holder == boot and current == epoch and epoch > 0

-- Writes the lease for `boot` under an epoch, and returns it.
local function write(new_epoch)
  local time = redis.call('TIME')
  local now = time[1] + time[2] / 1000000
  renewed = renewed + 1
  redis.call('HSET', key, 'boot', boot, 'epoch', string.format('%d', new_epoch),
    'until', string.format('%.3f', now + life), 'lease_sec', life,
    'renewed', string.format('%d', renewed), 'deaf', deaf)
  return { boot, string.format('%d', new_epoch), string.format('%d', renewed), deaf, life }
end

-- Returns the lease unchanged.
local function as_it_is()
  return { shown(holder), string.format('%d', current), string.format('%d', renewed), held[4] or '', lease_sec }
end

-- Returns the names of a comma-separated list as keys, and how many there are.
local function names_in(list)
  local found, count = {}, 0
  for name in string.gmatch(list, '[^,]+') do
    count = count + (found[name] and 0 or 1)
    found[name] = true
  end
  return found, count
end

-- Returns true if `boot` hears each bus that the holder hears, and another one. Of a bus that is lost to all, both
-- are deaf: it must not keep a leader that hears no other one either.
local function hears_more()
  local theirs, lost_to_them = names_in(held[4] or '')
  local ours, lost_to_us = names_in(deaf)
  for name in pairs(ours) do
    if not theirs[name] then
      return false
    end
  end
  return lost_to_us < lost_to_them
end

if give then
  if mine then
    redis.call('HSET', key, 'boot', '', 'until', '0', 'deaf', '')
    holder = ''
  end
  return as_it_is()
end
if mine then
  return write(math.max(current, least, carried))
end
if carried > current then
  -- a new epoch, since another healer may have written meanwhile
  return write(math.max(carried, epoch + 1))
end
local unchanged = stale == string.format('%d.%d', current, renewed)
-- the lease is its own, with an epoch that it does not know: the reply was lost
local forgotten = holder == boot
if may_take and (holder == '' or forgotten or unchanged or hears_more()) then
  return write(math.max(current + 1, least))
end
return as_it_is()
