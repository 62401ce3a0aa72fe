-- Takes over one entry that its consumer did not settle in time, and tells how often it has been taken.
-- One at a time: if that entry is the one that kills, nothing else is counted as taken in vain.
-- KEYS: 1 the stream. ARGV: 1 group, 2 consumer, 3 idle for so many milliseconds, 4 bytes of an entry at most
-- Returns the entry, how often it was taken, its fields (nothing for one that is too large to be handed out, which
-- may be what ended who had it), and how many are gone from the stream.
local function small(fields)
  local size = 0
  for _, text in ipairs(fields) do size = size + #text end
  return size <= tonumber(ARGV[4])
end
local at, gone = '0-0', 0
for _ = 1, 1000 do
  local found = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], at, 'COUNT', 1)
  gone = gone + #(found[3] or {})
  if #found[2] > 0 then
    local entry = found[2][1]
    local taken = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
    return {entry[1], taken[1] and taken[1][4] or 1, small(entry[2]) and entry[2], gone}
  end
  at = found[1]
  if at == '0-0' then break end
end
return {false, 0, false, gone}
