-- flags: no-writes
-- The window that ended first and has no digest yet, with all that is kept of it.
-- KEYS: 1 the windows. Returns nothing, or the window and its fields, each without its name in front.
local now = tonumber(redis.call('TIME')[1])
local window, earliest
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local begins, ends = string.match(field, '^(%d+)-(%d+) n$')
  ends = tonumber(ends)
  if ends and ends <= now and (not earliest or ends < earliest) then
    window, earliest = begins .. '-' .. string.format('%d', ends), ends
  end
end
if not window then return false end
local prefix, found = window .. ' ', {window}
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  if string.sub(all[at], 1, #prefix) == prefix then
    found[#found + 1] = string.sub(all[at], #prefix + 1)
    found[#found + 1] = all[at + 1]
  end
end
return found
