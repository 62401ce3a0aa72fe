-- flags: no-writes
-- Reads fields of hashes, but returns the size of a value that is too large.
--
-- KEYS: the hashes. ARGV: the most bytes of a value, then the names of the fields.
-- Returns for each hash a list with one element for each field: its value, its size in bytes if that is greater than
-- allowed, or false if the hash lacks the field. For a key that holds another type it returns the name of that type
-- instead of the list.

local most = tonumber(ARGV[1])

-- Returns the value of a field of a hash, or its size if the value is too large.
local function read(key, name)
  local size = redis.call('HSTRLEN', key, name)
  if size > most then return size end
  return redis.call('HGET', key, name)
end

local found = {}
for at, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local values = {}
  if kind == 'hash' then
    for n = 2, #ARGV do values[n - 1] = read(key, ARGV[n]) end
  else
    for n = 2, #ARGV do values[n - 1] = false end
  end
  found[at] = (kind == 'hash' or kind == 'none') and values or kind
end
return found
