-- What the scripts of all leases share. Any service may write where a lease is: nothing there is believed unread.

-- Returns the whole number that a stored text is, if it is at least `least`; else nil.
local function whole_number(value, least)
  local found = value and #value < 17 and string.match(value, '^%d+$') and tonumber(value)
  return found and found >= least and found < 2 ^ 53 and found or nil
end

-- Returns for how many milliseconds the key of a held lease lives on. If it would live for more than `longest`, or
-- without an end, another hand has changed it: it lives for `life` from now on.
local function remaining_ms(key, life, longest)
  local left = redis.call('PTTL', key)
  if left < 0 or left > longest then
    redis.call('PEXPIRE', key, life)
    left = life
  end
  return left
end

-- Returns the name of a holder at a length that fits a log line and a beat's detail.
local function shown(holder)
  return string.sub(holder or '', 1, 200)
end

