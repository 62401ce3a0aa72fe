-- Reads the last pings of services.
--
-- KEYS: their streams. ARGV: how many entries of each; '' leaves the bodies out.
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
  for _, entry in ipairs(ARGV[2] == '' and entries or {}) do
    local fields = {}
    for at = 1, #entry[2], 2 do
      if entry[2][at] ~= 'body' then
        fields[#fields + 1] = entry[2][at]
        fields[#fields + 1] = entry[2][at + 1]
      end
    end
    entry[2] = fields
  end
  found[number] = { added, entries }
end
return found
