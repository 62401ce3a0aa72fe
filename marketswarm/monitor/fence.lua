-- Included at the start of every script that writes for a monitor. KEYS[1] is its lease; ARGV[1] and ARGV[2] are
-- the boot and the epoch of its fence. Returns -1 from the script, which then writes nothing, if the lease holds
-- another boot or epoch. An empty boot needs no lease.

local function is_leader()
  if ARGV[1] == '' then
    return true
  end
  local held = redis.call('HMGET', KEYS[1], 'boot', 'epoch')
  return held[1] == ARGV[1] and held[2] == ARGV[2]
end

if not is_leader() then
  return -1
end

