-- flags: no-writes
-- Reads beats and the time each has left to live: for each key the payload ('' for none) and its PTTL.
-- ARGV: the bytes that a beat has at most. Of a longer value one byte more is read, so that it is seen to be longer;
-- a key of another type answers with the name of its type, which is no beat either.
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
