-- Deletes a stream that an entry with the last possible id has ended, and begins it anew with what no reader was given.
--
-- KEYS  1  the stream
-- ARGV  1  the most bytes of entries that are kept
-- Returns 1 if it did that; 0 for a stream that takes entries, which another client may have begun anew meanwhile.
--
-- Kept are, with their ids, the newest of the entries that some consumer group was not given yet, if the caller may read
-- both. So a group that is made anew where its reader stands misses nothing. A reader that was given the last possible
-- id has read all that was before it. Entries more than a day ahead are lost: no writer of ours has chosen such an id.

local stream, room = KEYS[1], tonumber(ARGV[1])
local DAY_SEC, MOST = 86400, 10000

-- The server refuses an id below the newest, but first, with other words, any id after the last possible one. In an empty
-- stream that never had an entry the id is allowed: then the entry is trimmed off again at once.
local reply = redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '0', '0-1', 'is', 'ended')
if type(reply) ~= 'table' or not reply.err or not string.find(tostring(reply.err), 'exhausted', 1, true) then
  return 0
end

-- Returns true if an id is older than another one. A number of 64 bits is no number of Lua.
local function is_older(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  if ms == other_ms then
    ms, other_ms = seq, other_seq
  end
  return #ms < #other_ms or #ms == #other_ms and ms < other_ms
end

-- Returns the oldest position of a group, nil if there is none or the caller may not ask.
local function find_position()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local oldest
  for _, group in ipairs(groups.err and {} or groups) do
    for at = 1, #group, 2 do
      local id = group[at] == 'last-delivered-id' and group[at + 1]
      if id and (not oldest or is_older(id, oldest)) then
        oldest = id
      end
    end
  end
  return oldest
end

local kept, position = {}, find_position()
local newest = string.format('%.0f', (redis.call('TIME')[1] + DAY_SEC) * 1000)
if position and is_older(position, newest .. '-0') then
  while #kept < MOST do
    -- one at a time, since a page could be as large as the server's memory
    local page = redis.pcall('XREVRANGE', stream, newest, '(' .. position, 'COUNT', 1)
    local entry = not page.err and page[1]
    if not entry then
      break
    end
    for _, text in ipairs(entry[2]) do
      room = room - #text
    end
    if room < 0 then
      break
    end
    kept[#kept + 1] = entry
    newest = '(' .. entry[1]
  end
end
redis.call('DEL', stream)
for at = #kept, 1, -1 do
  redis.call('XADD', stream, kept[at][1], unpack(kept[at][2]))
end
return 1
