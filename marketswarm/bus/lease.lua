-- Functions that the scripts of all leases include. Any service may write to the key of a lease, so each value that is
-- read there is checked.

-- Returns the whole number that a stored text represents, if it is at least `least` and below 2^53; else nil.
local function whole_number(value, least)
  local found = value and #value < 17 and string.match(value, '^%d+$') and tonumber(value)
  return found and found >= least and found < 2 ^ 53 and found or nil
end

-- Returns in how many milliseconds the key of a held lease expires. If that is more than `longest`, or the key never
-- expires, another client has changed it: it expires after `life` milliseconds from now.
local function remaining_ms(key, life, longest)
  local left = redis.call('PTTL', key)
  if left < 0 or left > longest then
    redis.call('PEXPIRE', key, life)
    left = life
  end
  return left
end

-- Returns the first 200 bytes of a holder's name, '' for nil: a log line and a beat's detail have room for that.
local function shown(holder)
  return string.sub(holder or '', 1, 200)
end

