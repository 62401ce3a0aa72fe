-- Puts down what was made of entries and takes them off the group's list: of each both, or neither.
-- A note whose item is known is not written again. What is put down falls into the window of this server's clock.
-- KEYS: 1 the notes, 2 the memory (a sorted set of the identities of items and digests by when),
--       3 the windows that have no digest yet (a hash), 4 the stream of the entries, if it is on this server
-- ARGV: 1 group, empty when the stream is on another server, 2 identities remembered at most,
--       3 seconds they are remembered, 4 length of the notes, about, 5 seconds of a window, 6 fields of windows;
--       then for each entry: its id, note, bar, probe or none, whose (identity, symbol, target), the rest as JSON
-- Returns 1 for each that is new, 0 for each that was known.
local MOST_WINDOWS = 10000
local MOST_BYTES = 4096
local notes, memory, windows, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, window_sec = ARGV[1], tonumber(ARGV[5])
local time = redis.call('TIME')
local fields = redis.call('HLEN', windows) -- and so an error before anything is written, if it is no hash

-- a clock that was set back must not add to what was told; whoever calls this must not keep the server at it
local function open_window()
  if not window_sec or window_sec < 1 or window_sec > 2 ^ 31 then
    return nil
  end
  local begins = math.floor(time[1] / window_sec) * window_sec
  for _ = 1, MOST_WINDOWS do
    local found = string.format('%d-%d', begins, begins + window_sec)
    if not redis.call('ZSCORE', memory, 'digest:' .. found) then
      return found
    end
    begins = begins + window_sec
  end
end

local window = open_window()
if not window then
  return redis.error_reply('ERR no window can be open of ' .. ARGV[5] .. ' s')
end

local function note(whose, rest)
  if redis.call('ZSCORE', memory, whose) then return 0 end
  local said = cjson.decode(rest)
  said[#said + 1] = 'window'
  said[#said + 1] = window
  local id = redis.call('XADD', notes, 'MAXLEN', '~', ARGV[4], '*', unpack(said))
  redis.call('ZADD', memory, time[1], whose)
  redis.call('HINCRBY', windows, window .. ' n', 1)
  redis.call('HSETNX', windows, window .. ' first', id)
  redis.call('HSET', windows, window .. ' last', id)
  return 1
end

local function bar(new, old)
  if not old then
    return {start = new.start, last = new.start, open = new.open, close = new.close, high = new.high, low = new.low,
            n = 1}
  end
  if new.start < old.start then old.start, old.open = new.start, new.open end
  if new.start >= old.last then old.last, old.close = new.start, new.close end
  old.high, old.low, old.n = math.max(old.high, new.high), math.min(old.low, new.low), old.n + 1
  return old
end

local function probe(new, old)
  old = old or {n = 0, failed = 0, why = ''}
  old.n = old.n + 1
  if not new.ok then old.failed, old.why = old.failed + 1, new.why end
  return old
end

local function observe(merged, what, whose, rest)
  local field = window .. ' ' .. what .. ' ' .. whose
  -- what is too large for one of ours is overwritten unread
  local old = redis.call('HSTRLEN', windows, field) <= MOST_BYTES and redis.call('HGET', windows, field)
  if not old then
    if fields >= tonumber(ARGV[6]) then return 0 end
    fields = fields + 1
  end
  local kept = merged(cjson.decode(rest), old and cjson.decode(old))
  redis.call('HINCRBY', windows, window .. ' n', 0)
  redis.call('HSET', windows, field, cjson.encode(kept))
  return 1
end

local function ours(entry)
  return group == '' or #redis.call('XPENDING', stream, group, entry, entry, 1) > 0
end

local new = {}
for at = 7, #ARGV, 4 do
  local entry, what, whose, rest = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local done = 0
  if what == 'note' then
    done = note(whose, rest)
  elseif what ~= 'none' and ours(entry) then -- there is no memory of these: who lost an entry to another adds nothing
    done = observe(what == 'bar' and bar or probe, what, whose, rest)
  end
  if group ~= '' then redis.call('XACK', stream, group, entry) end
  new[#new + 1] = done
end
redis.call('ZREMRANGEBYRANK', memory, 0, -ARGV[2] - 1)
redis.call('EXPIRE', memory, ARGV[3])
redis.call('EXPIRE', windows, ARGV[3])
return new
