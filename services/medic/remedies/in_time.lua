-- Return true if the lease under which this was meant has ended: at `ends_ms` by this server's clock. Included.
local function is_late(ends_ms)
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000 >= tonumber(ends_ms)
end
