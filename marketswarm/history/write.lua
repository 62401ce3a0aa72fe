-- Stores what changed in the history of the fleet: all of it, or nothing.
--
-- KEYS: the hash of the history, the hash of the services, then hashes of hours.
-- ARGV: the version that is stored as far as the caller knows ('' for none), the new version, for each hash of hours
-- when it expires (epoch seconds), then for each change three values: the number of its key, the field, and the value
-- ('' deletes the field).
-- Returns 1 (stored), 0 (another version is stored, so nothing is written) or -1 (a key is not a hash).

for _, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' and kind ~= 'none' then
    return -1
  end
end
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then
  return 0
end
local first = #KEYS + 1
for at = first, #ARGV, 3 do
  local key, field, value = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if value == '' then
    redis.call('HDEL', key, field)
  else
    redis.call('HSET', key, field, value)
  end
end
for at = 3, #KEYS do
  redis.call('EXPIREAT', KEYS[at], ARGV[at])
end
redis.call('HSET', KEYS[1], 'version', ARGV[2])
return 1
