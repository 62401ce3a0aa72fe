-- Write the records of entries and acknowledge the entries: of each entry both, or neither.
-- A note about an item that is known is not written again. A record belongs to the window of this server's clock.
-- KEYS  1  the stream of notes
--       2  the known identities: a sorted set of items and digests, by the time they were written (s)
--       3  the windows that have no digest yet: a hash
--       4  the stream of the entries, if it is on this server
-- ARGV  1  group; '' if the stream is on another server
--       2  most identities that are kept
--       3  for how long identities and windows are kept (s)
--       4  length of the stream of notes, about
--       5  length of a window (s)
--       6  most fields of windows
--       then for each entry four values: its id, its kind (note, bar, probe, none), its subject (identity, symbol,
--       target), its content (JSON)
-- Returns for each entry 1 if its record is new, 0 if it was known or there is no room for it.
local MAX_WINDOWS = 10000
local MAX_BYTES = 4096
local notes, known, windows, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, window_sec = ARGV[1], tonumber(ARGV[5])
local time = redis.call('TIME')
local fields = redis.call('HLEN', windows) -- fails before anything is written if it is not a hash

-- Return the first window that has no digest yet: after the clock was set back, the current one may have one.
local function open_window()
  if not window_sec or window_sec < 1 or window_sec > 2 ^ 31 then
    return nil
  end
  local begins = math.floor(time[1] / window_sec) * window_sec
  for _ = 1, MAX_WINDOWS do
    local found = string.format('%d-%d', begins, begins + window_sec)
    if not redis.call('ZSCORE', known, 'digest:' .. found) then
      return found
    end
    begins = begins + window_sec
  end
end

local window = open_window()
if not window then
  return redis.error_reply('ERR no window can be open of ' .. ARGV[5] .. ' s')
end

-- Write a note with its window to the stream and count it in the window; return 1, or 0 if its identity is known.
local function write_note(identity, content)
  if redis.call('ZSCORE', known, identity) then return 0 end
  local fields_of_note = cjson.decode(content)
  fields_of_note[#fields_of_note + 1] = 'window'
  fields_of_note[#fields_of_note + 1] = window
  local id = redis.call('XADD', notes, 'MAXLEN', '~', ARGV[4], '*', unpack(fields_of_note))
  redis.call('ZADD', known, time[1], identity)
  redis.call('HINCRBY', windows, window .. ' n', 1)
  redis.call('HSETNX', windows, window .. ' first', id)
  redis.call('HSET', windows, window .. ' last', id)
  return 1
end

-- Return the stored move of a symbol with one more bar; `old` is nil for the first bar of the window.
local function merge_bar(new, old)
  if not old then
    return {start = new.start, last = new.start, open = new.open, close = new.close, high = new.high, low = new.low,
            n = 1}
  end
  if new.start < old.start then old.start, old.open = new.start, new.open end
  if new.start >= old.last then old.last, old.close = new.start, new.close end
  old.high, old.low, old.n = math.max(old.high, new.high), math.min(old.low, new.low), old.n + 1
  return old
end

-- Return the stored counts of a target with one more probe; `old` is nil for the first probe of the window.
local function merge_probe(new, old)
  old = old or {n = 0, failed = 0, why = ''}
  old.n = old.n + 1
  if not new.ok then old.failed, old.why = old.failed + 1, new.why end
  return old
end

-- Merge an observation into its field of the window; return 1, or 0 if there is no room for another field.
local function write_observation(merge, kind, subject, content)
  local field = window .. ' ' .. kind .. ' ' .. subject
  -- a value that is too large is not one of ours: it is overwritten unread
  local old = redis.call('HSTRLEN', windows, field) <= MAX_BYTES and redis.call('HGET', windows, field)
  if not old then
    if fields >= tonumber(ARGV[6]) then return 0 end
    fields = fields + 1
  end
  local merged = merge(cjson.decode(content), old and cjson.decode(old))
  redis.call('HINCRBY', windows, window .. ' n', 0)
  redis.call('HSET', windows, field, cjson.encode(merged))
  return 1
end

-- Return true if an entry is pending in the group, or if the stream is on another server.
local function is_pending(entry)
  return group == '' or #redis.call('XPENDING', stream, group, entry, entry, 1) > 0
end

local new = {}
for at = 7, #ARGV, 4 do
  local entry, kind, subject, content = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local done = 0
  if kind == 'note' then
    done = write_note(subject, content)
  -- observations have no identities: an entry that another consumer has settled must not be added again
  elseif kind ~= 'none' and is_pending(entry) then
    done = write_observation(kind == 'bar' and merge_bar or merge_probe, kind, subject, content)
  end
  if group ~= '' then redis.call('XACK', stream, group, entry) end
  new[#new + 1] = done
end
redis.call('ZREMRANGEBYRANK', known, 0, -ARGV[2] - 1)
redis.call('EXPIRE', known, ARGV[3])
redis.call('EXPIRE', windows, ARGV[3])
return new
