-- Claims one entry that its consumer did not acknowledge in time, and returns how often it was delivered.
-- One at a time: if that entry is what ends its consumers, no other entry gets a delivery counted for it.
-- KEYS  1  the stream
-- ARGV  1  group
--       2  consumer that claims
--       3  for how long the entry must be idle (ms)
--       4  largest entry that is returned (bytes)
-- Returns {id, deliveries, fields, number of entries that were trimmed}. `id` is nil if there is no such entry;
-- `fields` is nil if the entry is too large, which may be what ended its last consumer.

-- Returns true if the fields of an entry have at most ARGV[4] bytes.
local function is_small(fields)
  local size = 0
  for _, text in ipairs(fields) do
    size = size + #text
  end
  return size <= tonumber(ARGV[4])
end

local at, trimmed = '0-0', 0
for _ = 1, 1000 do
  local found = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], at, 'COUNT', 1)
  trimmed = trimmed + #(found[3] or {})
  if #found[2] > 0 then
    local entry = found[2][1]
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
    return {entry[1], pending[1] and pending[1][4] or 1, is_small(entry[2]) and entry[2], trimmed}
  end
  at = found[1]
  if at == '0-0' then
    break
  end
end
return {false, 0, false, trimmed}
