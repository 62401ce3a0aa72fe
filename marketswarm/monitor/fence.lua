-- Comes before every script that writes for a listener: KEYS[1] is its lease, ARGV[1] and ARGV[2] the boot and
-- the epoch it believes to hold it with. An empty boot asks for no lease.

local function speaks()
  if ARGV[1] == '' then
    return true
  end
  local held = redis.call('HMGET', KEYS[1], 'boot', 'epoch')
  return held[1] == ARGV[1] and held[2] == ARGV[2]
end

if not speaks() then
  return -1
end

