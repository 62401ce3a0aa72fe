-- Publishes a canary.
--
-- KEYS: the key that counts the listener's canaries. ARGV: the channel of the canaries, the canary's number.
-- Returns how many subscribers received the canary, or -1 if the counter was unusable and was replaced.
--
-- The INCR makes a bus that accepts no writes refuse the canary, since it would accept no verdict either. A counter
-- that INCR can't increment was written by another client, and is set to 1.
local counted = redis.pcall('INCR', KEYS[1])
local replaced = type(counted) == 'table' and counted.err and redis.call('SET', KEYS[1], 1)
local heard = redis.call('PUBLISH', ARGV[1], ARGV[2])
return replaced and -1 or heard
