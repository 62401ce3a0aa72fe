-- Keeps health keys alive: KEYS are the keys, ARGV the object and the life in seconds of each.
for n, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[2 * n - 1], 'EX', ARGV[2 * n])
end
return #KEYS
