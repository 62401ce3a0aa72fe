-- include: fence.lua
-- Saves a monitor's state. KEYS: the lease, then hashes. ARGV: the fence, then for each hash the number of fields to
-- set, these fields with their values, the number of fields to delete, and these fields.
-- Returns 1, or -1 for a fence that does not hold.
local at = 3

-- Returns the next number in ARGV.
local function read_count()
  local count = tonumber(ARGV[at])
  at = at + 1
  return count
end

for n = 2, #KEYS do
  for _ = 1, read_count() do
    redis.call('HSET', KEYS[n], ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  for _ = 1, read_count() do
    redis.call('HDEL', KEYS[n], ARGV[at])
    at = at + 1
  end
end
return 1
