-- include: fence.lua
-- Writes health keys. KEYS: the lease, then the health keys. ARGV: the fence, then for each key its value and its
-- time to live in seconds. Returns the number of keys, or -1 for a fence that does not hold.
for n = 2, #KEYS do
  redis.call('SET', KEYS[n], ARGV[2 * n - 1], 'EX', ARGV[2 * n])
end
return #KEYS - 1
