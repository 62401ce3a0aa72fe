-- Applies one action to a lease that is a string with the id of its holder.
-- KEYS[1]: the lease.
-- ARGV: id        of the caller
--       life_ms   the life of a lease, in milliseconds
--       action    `take`: set the lease if it is free or the caller's; `renew`: set it if it is the caller's;
--                 `seize`: set it, whatever its holder is; `give`: delete it if it is the caller's; `look`: only read it
-- Returns the id of the holder after the action, at most 200 bytes, '' if the lease is free; and the milliseconds until
-- the lease of another holder expires.
-- A lease without an expiry, or with one that is much too late, was written by another program, or taken by a clock that
-- was ahead: it is set to expire after `life_ms`. Processes with another setting may have up to ten times our life.

-- include: lease.lua
local id, life_ms, action = ARGV[1], ARGV[2], ARGV[3]
local found = redis.pcall('GET', KEYS[1])
local holder, left_ms = type(found) == 'string' and found or '', 0
if holder ~= '' then
  left_ms = remaining_ms(KEYS[1], life_ms, 10 * life_ms)
end
local mine = holder == id
if action == 'give' then
  if mine then
    redis.call('DEL', KEYS[1])
    holder = ''
  end
elseif action == 'seize' or (action == 'take' and (mine or holder == '')) or (action == 'renew' and mine) then
  redis.call('SET', KEYS[1], id, 'PX', life_ms)
  holder = id
end
return { shown(holder), left_ms }
