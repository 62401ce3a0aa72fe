-- Applies one action to the notifier's lease on one bus.
-- KEYS[1]: the lease, a string that holds the boot id of the holder.
-- ARGV: boot      the boot id of the caller
--       life_ms   the lifetime of a lease, in milliseconds
--       way       `take`: set the lease if it is free or the caller's; `seize`: set it, whatever its holder is;
--                 `give`: delete it if it is the caller's; `look`: only return the holder
-- Returns the boot id of the holder after the action, at most 200 bytes; '' if the lease is free.
-- A lease without an expiry, or with one that is much too late, was written by another program: it is set to expire
-- after `life_ms`.

-- include: marketswarm.bus/lease.lua
local boot, life_ms, way = ARGV[1], ARGV[2], ARGV[3]
local found = redis.pcall('GET', KEYS[1])
local holder = type(found) == 'string' and found or ''
if holder ~= '' then
  remaining_ms(KEYS[1], life_ms, math.max(3600000, 10 * life_ms))
end
if way == 'give' then
  if holder == boot then
    redis.call('DEL', KEYS[1])
    holder = ''
  end
elseif way == 'seize' or (way == 'take' and (holder == '' or holder == boot)) then
  redis.call('SET', KEYS[1], boot, 'PX', life_ms)
  holder = boot
end
return shown(holder)
