-- Reads the last pings of services.
--
-- KEYS: their streams. ARGV: how many entries of each; '' leaves the bodies out.
-- What no ping has is left out, because a service may write to the stream of its own: fields beyond the first 40, and
-- those of over 10,000 bytes.
-- Returns for each stream how many entries were ever added to it, and its last ones, the newest first.
-- flags: no-writes

local found = {}
for number, key in ipairs(KEYS) do
  local entries = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', ARGV[1])
  if entries.err then -- it is not a stream
    entries = {}
  end
  local added = #entries
  local info = added > 0 and redis.pcall('XINFO', 'STREAM', key) or {}
  for at = 1, #info, 2 do
    if info[at] == 'entries-added' then
      added = info[at + 1]
    end
  end
  for _, entry in ipairs(entries) do
    local fields = {}
    for at = 1, math.min(#entry[2], 80), 2 do
      local name, value = entry[2][at], entry[2][at + 1]
      if (ARGV[2] ~= '' or name ~= 'body') and #name <= 10000 and #value <= 10000 then
        fields[#fields + 1] = name
        fields[#fields + 1] = value
      end
    end
    entry[2] = fields
  end
  found[number] = { added, entries }
end
return found
