-- Writes transactions, one after the other: each as a whole or not at all. transaction.py says why it looks first.
--
-- KEYS: the hashes and streams of all transactions; below, a key is given by its number here.
-- ARGV: for each transaction
--   the number of guards; then for each a key, a field, `IS` or `EPOCH`, and a value:
--     IS     the field must have this value; '' stands for a missing field
--     EPOCH  the field must not have a higher epoch than this one
--   the entries to add, '' for none: a JSON array of arrays, each the stream's key, its length (about), 1 for a stream
--     that begins anew if an entry with the last possible id has ended it, else 0, then names and values
--   the number of hashes to write; then for each its key, the number of fields to set, these with their values, the
--     number of fields to delete, these, `EXPIRE` or `EXPIREAT` or '', and the seconds for that
-- Returns for each transaction 1, or 0 if a guard does not hold, so that nothing of it is written.
local SLICE = 1000 -- arguments of one command; Lua can pass 8000
local AHEAD_MS = 300000
local LAST_MS = '18446744073709551615'

local at = 0

-- Returns the next argument. Raises an error if there is none, so that a wrong length can't make a loop run on.
local function take()
  at = at + 1
  return ARGV[at] or error('a list that is longer than what is given')
end

-- Passes over so many arguments; returns the numbers of the first and the last of them.
local function pass_over(count)
  at = at + count
  return at - count + 1, at
end

local function parse_transaction()
  local one = { guards = {}, hashes = {} }
  for n = 1, tonumber(take()) do
    one.guards[n] = { key = KEYS[tonumber(take())], field = take(), kind = take(), value = take() }
  end
  local entries = take()
  one.entries = entries == '' and {} or cjson.decode(entries)
  for n = 1, tonumber(take()) do
    local hash = { key = KEYS[tonumber(take())] }
    hash.set_from, hash.set_to = pass_over(2 * tonumber(take()))
    hash.delete_from, hash.delete_to = pass_over(tonumber(take()))
    hash.expiry, hash.seconds = take(), take()
    one.hashes[n] = hash
  end
  return one
end

local allowed = {}

-- Raises an error for a command on a key that the caller has no right to.
local function require_right(command, key)
  local both = command .. ' ' .. key
  if not allowed[both] and redis.acl_check_cmd and not redis.acl_check_cmd(command, key) then
    error('ACL failure in script: this user may not ' .. both, 0)
  end
  allowed[both] = true
end

-- A hash of another type makes HGET fail.
local function check_hash(key)
  redis.call('HGET', key, '')
end

local streams, stream_count = {}, 0

local function check_entry(entry)
  local key = KEYS[entry[1]]
  if #entry > 4 * SLICE then
    error('an entry with more than ' .. 4 * SLICE .. ' names and values', 0)
  end
  if not streams[key] then
    streams[key] = { is_renewed = entry[3] == 1 }
    stream_count = stream_count + 1
    require_right('XADD', key)
    if entry[3] == 1 then
      require_right('DEL', key)
    end
  end
end

-- Of several streams, the second could refuse what the first one has; a single one refuses the first write of all.
local function check_stream(key, is_renewed)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'stream' and kind ~= 'none' then
    error('WRONGTYPE ' .. key .. ' is a ' .. kind, 0)
  end
  if kind == 'none' or is_renewed or stream_count == 1 then
    return
  end
  local info = redis.call('XINFO', 'STREAM', key)
  for n = 1, #info, 2 do
    if info[n] == 'last-generated-id' and string.sub(info[n + 1], 1, #LAST_MS) == LAST_MS then
      error('The stream ' .. key .. ' has exhausted the last possible ID', 0)
    end
  end
end

local function check_transaction(one)
  for _, guard in ipairs(one.guards) do
    check_hash(guard.key)
  end
  for _, entry in ipairs(one.entries) do
    check_entry(entry)
  end
  for _, hash in ipairs(one.hashes) do
    check_hash(hash.key)
    if hash.set_to >= hash.set_from then
      require_right('HSET', hash.key)
    end
    if hash.delete_to >= hash.delete_from then
      require_right('HDEL', hash.key)
    end
    if hash.expiry ~= '' then
      require_right(hash.expiry, hash.key)
    end
  end
end

local function holds(guard)
  local found = redis.call('HGET', guard.key, guard.field) or ''
  if guard.kind == 'IS' then
    return found == guard.value
  end
  local stored, epoch, time = tonumber(found), tonumber(guard.value), redis.call('TIME')
  -- An epoch is at least the time in ms at which its lease was taken. So one that is five minutes ahead of both the
  -- clock and the caller's own was written by no holder of the lease, and keeps none out; after the clock was set
  -- back, the epochs of all holders are ahead of it alike.
  return not stored or stored <= epoch or stored >= math.max(time[1] * 1000, epoch) + AHEAD_MS
end

local function all_hold(guards)
  for _, guard in ipairs(guards) do
    if not holds(guard) then
      return false
    end
  end
  return true
end

-- Adds an entry; returns the server's error, nil for success.
local function add_entry(entry)
  local key, length = KEYS[entry[1]], entry[2]
  local reply = redis.pcall('XADD', key, 'MAXLEN', '~', length, '*', unpack(entry, 4))
  local why = type(reply) == 'table' and reply.err and tostring(reply.err)
  if why and entry[3] == 1 and (string.find(why, 'smaller') or string.find(why, 'exhausted')) then
    redis.call('DEL', key)
    redis.call('XADD', key, '*', unpack(entry, 4))
  elseif why then
    return reply
  end
end

-- Calls a command on a key with these arguments, as many at once as Lua can pass.
local function call_with(command, key, from, to)
  for first = from, to, SLICE do
    redis.call(command, key, unpack(ARGV, first, math.min(first + SLICE - 1, to)))
  end
end

-- Writes a transaction; returns the server's error if it refuses the first write, else nil.
local function write(one)
  for _, entry in ipairs(one.entries) do
    local refusal = add_entry(entry)
    if refusal then
      return refusal
    end
  end
  for _, hash in ipairs(one.hashes) do
    call_with('HSET', hash.key, hash.set_from, hash.set_to)
    call_with('HDEL', hash.key, hash.delete_from, hash.delete_to)
    if hash.expiry ~= '' then
      redis.call(hash.expiry, hash.key, hash.seconds)
    end
  end
end

local transactions, done = {}, {}
while at < #ARGV do
  local one = parse_transaction()
  check_transaction(one)
  transactions[#transactions + 1] = one
end
for key, stream in pairs(streams) do
  check_stream(key, stream.is_renewed)
end
for n, one in ipairs(transactions) do
  done[n] = all_hold(one.guards) and 1 or 0
  local refusal = done[n] == 1 and write(one)
  if refusal then
    return refusal
  end
end
return done
