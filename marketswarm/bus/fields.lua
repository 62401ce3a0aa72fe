-- flags: no-writes
-- Reads fields of hashes, and leaves out the values that are too large.
--
-- KEYS: the hashes. ARGV: the most bytes of a value, then the names of the fields.
-- Returns for each hash a list with the value of each field: its size where it is too large, nothing where there is
-- none. For a key that holds another type it returns that type instead of the list.

local most = tonumber(ARGV[1])

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
