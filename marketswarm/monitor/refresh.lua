-- include: fence.lua
-- Keeps health keys alive: KEYS after the lease are the keys, ARGV after the fence the object and the life in
-- seconds of each.
for n = 2, #KEYS do
  redis.call('SET', KEYS[n], ARGV[2 * n - 1], 'EX', ARGV[2 * n])
end
return #KEYS - 1
