-- Reads beats and the time each has left to live: for each key the payload ('' for none) and its PTTL.
local found = {}
for n, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local payload = kind == 'string' and redis.call('GET', key) or ''
  found[2 * n - 1] = payload
  found[2 * n] = payload ~= '' and redis.call('PTTL', key) or -2
end
return found
