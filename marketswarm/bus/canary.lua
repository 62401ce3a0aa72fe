-- Publishes a canary. KEYS[1] is the listener's counter, ARGV its channel and the canary's number.
-- The INCR makes a bus that takes no writes refuse the canary: it could take no verdict either. What can't be
-- counted was put there by somebody else, and is replaced.
-- Returns how many heard it, or -1 after a replacement.
local counted = redis.pcall('INCR', KEYS[1])
local replaced = type(counted) == 'table' and counted.err and redis.call('SET', KEYS[1], 1)
local heard = redis.call('PUBLISH', ARGV[1], ARGV[2])
return replaced and -1 or heard
