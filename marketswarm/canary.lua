-- Publishes a canary. KEYS[1] is the listener's counter, ARGV its channel and the canary's number.
-- The INCR makes a bus that takes no writes refuse the canary: it could take no verdict either.
redis.call('INCR', KEYS[1])
return redis.call('PUBLISH', ARGV[1], ARGV[2])
