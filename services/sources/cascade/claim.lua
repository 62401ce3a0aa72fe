-- Claim a series for one load, renew the claim, or release it: so no question is asked twice at the same time.
--
-- KEYS  1   the claim: a string, the token of the load that holds it
-- ARGV  1   claim, renew or release
--       2   the token
--       3   milliseconds until the claim of a dead process expires
-- Returns {1, 0} if the claim is the caller's now; {0, milliseconds until another's expires} if it is not.
local holder = redis.call('GET', KEYS[1])
if ARGV[1] == 'claim' and not holder or holder == ARGV[2] then
  if ARGV[1] == 'release' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  end
  return {1, 0}
end
return {0, math.max(0, redis.call('PTTL', KEYS[1]))}
