-- One turn with the notifier's lease, KEYS[1]. ARGV: boot who asks, life of the lease in milliseconds, and take (if it
-- is free), seize (whoever holds it), give (if it is ours) or look. Returns who holds it then, '' for nobody.
-- What another hand wrote there holds it for no longer than one lease.

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
