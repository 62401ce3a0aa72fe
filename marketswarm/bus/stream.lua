-- flags: no-writes
-- Reads entries of a stream, but only the size of an entry that is too large.
--
-- KEYS: the stream. ARGV: `XRANGE`, `XREVRANGE` or `IDS`, the most bytes of an entry and of all entries, then
--   for XRANGE and XREVRANGE: the id to begin at, the id to end at, the most entries
--   for IDS:                  the ids
-- Returns for each entry its id, its size in bytes, and its fields as a flat list, which is empty if the entry is too
-- large. At an entry that would exceed the most bytes of all entries it stops; it always returns the first entry.

local stream, how = KEYS[1], ARGV[1]
local entry_most, reply_most = tonumber(ARGV[2]), tonumber(ARGV[3])
local found, total = {}, 0

-- Adds an entry to the result. Returns false if the result has no room for it. Entries are read one at a time, since a
-- page of them could be as large as the server's memory.
local function take(entry)
  local id, fields = entry[1], entry[2]
  local size = 0
  for _, text in ipairs(fields) do
    size = size + #text
  end
  if size > entry_most then
    fields = {}
  else
    if total + size > reply_most and #found > 0 then
      return false
    end
    total = total + size
  end
  found[#found + 1] = {id, size, fields}
  return true
end

if how == 'IDS' then
  for n = 4, #ARGV do
    local entry = redis.call('XRANGE', stream, ARGV[n], ARGV[n])[1]
    if entry and not take(entry) then
      return found
    end
  end
  return found
end

local at, last = ARGV[4], ARGV[5]
for _ = 1, tonumber(ARGV[6]) do
  local entry = redis.call(how == 'XRANGE' and 'XRANGE' or 'XREVRANGE', stream, at, last, 'COUNT', 1)[1]
  if not entry or not take(entry) then
    return found
  end
  at = '(' .. entry[1]
end
return found
