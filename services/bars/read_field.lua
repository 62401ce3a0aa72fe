-- flags: no-writes
-- Reads one field of many hashes: one by one, ten thousand requests would cost the caller a third of a core.
--
-- KEYS: the hashes
-- ARGV: the field
-- Returns its value in each of them, nil where it is missing.
local found = {}
for n, key in ipairs(KEYS) do
  found[n] = redis.call('HGET', key, ARGV[1])
end
return found
