-- flags: no-writes
-- Reads last beats. KEYS: the keys. ARGV[1]: the most bytes that a beat has.
-- Returns for each key its payload ('' for none) and its PTTL in milliseconds. Of a longer value, one byte more than
-- a beat has is returned, so that it fails to parse; for a key of another type, the name of the type.
local found = {}
for n, key in ipairs(KEYS) do
  local payload = redis.call('TYPE', key).ok
  if payload == 'string' then
    payload = redis.call('GETRANGE', key, 0, ARGV[1])
  elseif payload == 'none' then
    payload = ''
  end
  found[2 * n - 1] = payload
  found[2 * n] = payload ~= '' and redis.call('PTTL', key) or -2
end
return found
