-- Return the window that ended first, of those without a digest, with all its fields.
-- What no worker can have written is deleted: a field that is too large, all fields if there are too many, and the key
-- if it is not a hash.
-- KEYS  1  the windows: a hash, '<begin>-<end> <name>' -> value
-- ARGV  1  most fields
--       2  most bytes of a field's name, and of its value
-- Returns nil if no window is over and nothing was deleted; else {window or nil, names of what was deleted, then the
-- name and value of each of the window's fields, without the window in the name}.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
  redis.call('UNLINK', KEYS[1])
  return {false, {'a ' .. kind}}
end
local count = redis.call('HLEN', KEYS[1])
if count > tonumber(ARGV[1]) then
  redis.call('UNLINK', KEYS[1])
  return {false, {count .. ' fields'}}
end

local fields, removed = {}, {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if #field > tonumber(ARGV[2]) or redis.call('HSTRLEN', KEYS[1], field) > tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[1], field)
    removed[#removed + 1] = string.sub(field, 1, 100)
  else
    fields[#fields + 1] = field
  end
end

local now = tonumber(redis.call('TIME')[1])
local window, earliest
for _, field in ipairs(fields) do
  local begins, ends = string.match(field, '^(%d+)-(%d+) n$')
  ends = tonumber(ends)
  if ends and ends <= now and (not earliest or ends < earliest) then
    window, earliest = begins .. '-' .. string.format('%d', ends), ends
  end
end
if not window and #removed == 0 then return false end
local found = {window or false, removed}
local prefix = (window or '') .. ' '
for _, field in ipairs(fields) do
  if window and string.sub(field, 1, #prefix) == prefix then
    found[#found + 1] = string.sub(field, #prefix + 1)
    found[#found + 1] = redis.call('HGET', KEYS[1], field)
  end
end
return found
