-- flags: no-writes
-- Returns how a stream stands for a group.
-- KEYS  1  the stream
-- ARGV  1  group
--       2  for a reader without a group, the id up to which it has read
-- Returns a list; what is not known or not there is nil:
--   1 the server's clock (ms)       2 the number of entries that are pending
--   3 the number of unread entries; nil if they are many and the server has lost count
--   4 the id of the first unread entry
--   5 1 if the newest entry is read, else 0
--   6 the number of entries that the group passed over: they were gone before it came to them
--   7 the id up to which all is acknowledged: of the oldest pending entry, else of the last one that was read
--   8 the id of the oldest entry, if one before it was ever removed
local COUNTED, PAGE = 200, 10
local stream, group_name = KEYS[1], ARGV[1]

-- Returns a flat list of names and values as a table.
local function by_name(flat)
  local found = {}
  for at = 1, #flat, 2 do
    found[flat[at]] = flat[at + 1]
  end
  return found
end

-- Returns the first entries of a range, one unless a count is given. A stream's entries may be larger than the server's
-- memory together, so few are read at once.
local function read_first(from, to, count)
  return redis.call('XRANGE', stream, from, to, 'COUNT', count or 1)
end

-- Returns how many entries follow an id, up to COUNTED.
local function count_after(id)
  local count = 0
  repeat
    local page = read_first('(' .. id, '+', PAGE)
    count = count + #page
    id = #page > 0 and page[#page][1]
  until #page < PAGE or count >= COUNTED
  return count
end

-- Returns a group as the server describes it.
local function find_group()
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = by_name(flat)
    if group.name == group_name then
      return group
    end
  end
end

local group = ARGV[2] and {['last-delivered-id'] = ARGV[2], pending = 0} or find_group()
if not group then
  return redis.error_reply('NOGROUP ' .. stream .. ' has no group ' .. group_name)
end
local time = redis.call('TIME')
local info = by_name(redis.call('XINFO', 'STREAM', stream))
local position, added, read = group['last-delivered-id'], info['entries-added'], group['entries-read']
local is_caught_up = position == info['last-generated-id']
local has_read_entries = #read_first('-', position) > 0

-- The server's `lag` also counts entries that were trimmed off unread, and stays too high by them.
local unread = 0
if not is_caught_up then
  unread = has_read_entries and count_after(position) or info.length
  if has_read_entries and unread >= COUNTED then
    unread = group.lag and math.min(group.lag, info.length)
  end
end

-- The server counts what was added and what was read. What is missing was passed over, unless some of the entries that
-- are there are read and some are not: these can't be told apart cheaply.
local passed_over
if read and is_caught_up then
  passed_over = math.max(0, added - read)
elseif read and not has_read_entries then
  passed_over = math.max(0, added - info.length - read)
end

local first_unread = not is_caught_up and read_first('(' .. position, '+')[1]
local oldest_pending = group.pending > 0 and redis.call('XPENDING', stream, group_name)[2]
local oldest = added > info.length and info['first-entry']
return {
  time[1] * 1000 + math.floor(time[2] / 1000),
  group.pending,
  unread or false,
  first_unread and first_unread[1] or false,
  is_caught_up and 1 or 0,
  passed_over or false,
  oldest_pending or position,
  oldest and oldest[1] or false,
}
