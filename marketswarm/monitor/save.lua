-- include: fence.lua
-- Saves a listener's memory: KEYS after the lease are hashes, ARGV after the fence is for each of them a number of
-- fields to set, these with their values, a number of fields to forget, and these.
local at = 3

local function take()
  local count = tonumber(ARGV[at])
  at = at + 1
  return count
end

for n = 2, #KEYS do
  for _ = 1, take() do
    redis.call('HSET', KEYS[n], ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  for _ = 1, take() do
    redis.call('HDEL', KEYS[n], ARGV[at])
    at = at + 1
  end
end
return 1
