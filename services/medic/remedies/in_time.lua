-- Return true if a request that holds until `until_ms` (epoch ms, by this server's clock) comes too late. Included.
local function is_late(until_ms)
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(until_ms)
end
