-- include: fence.lua
-- Makes verdicts public, each all or nothing.
--
-- KEYS: the lease, the roster, the log, then a health key for each verdict.
-- ARGV: the fence, the log's length, then for each verdict eight values:
--   field    in the roster
--   assumed  the verdict that holds while nothing is stored
--   verdict  the new one
--   mark     of a verdict that changes no state, the same wherever it comes from; '' for one that does
--   value    what the roster is to hold, '' to forget the field
--   event    the alert object, '' for none; it is also what the health key is to hold
--   channel  where it is published, '' for nowhere
--   ttl      of the health key in seconds, 0 to leave no such key, -1 to leave it alone
-- Returns for each verdict 0 (already so), 1 (told) or 2 (told, but the channel was refused), and 2 more where the
-- stored entry could not be read: such an entry is no sign of any state, so the verdict is told; or the server's
-- refusal of a write, and then the verdicts before that one are told, and are "already so" the next time.

local roster, log = KEYS[2], KEYS[3]
local length = ARGV[3]

-- Returns nil when nothing is stored; else the entry, {} for one that can't be read, and whether it could be read.
local function stored_entry(field)
  local stored = redis.call('HGET', roster, field)
  if not stored then
    return nil, true
  end
  local ok, entry = pcall(cjson.decode, stored)
  if ok and type(entry) == 'table' and type(entry.verdict) == 'string' then
    return entry, true
  end
  return {}, false
end

local function already_so(entry, assumed, verdict, mark)
  if mark ~= '' then
    -- of one that was told down meanwhile its next ok is the news
    return entry and entry.verdict and (entry.mark == mark or entry.verdict ~= verdict)
  end
  return (entry or { verdict = assumed }).verdict == verdict
end

-- Each returns the error where the server refuses, nothing where it does as it is told.

local function refusal(reply)
  return type(reply) == 'table' and reply.err and reply or nil
end

local function remember(field, value)
  if value == '' then
    return refusal(redis.pcall('HDEL', roster, field))
  end
  return refusal(redis.pcall('HSET', roster, field, value))
end

local function keep(health, event, ttl)
  if ttl == '-1' then
    return nil
  end
  if ttl == '0' then
    return refusal(redis.pcall('DEL', health))
  end
  return refusal(redis.pcall('SET', health, event, 'EX', ttl))
end

local function tell(health, field, assumed, verdict, mark, value, event, channel, ttl)
  local stored, readable = stored_entry(field)
  if already_so(stored, assumed, verdict, mark) then
    return 0
  end
  if value == '' and not stored then
    -- forgotten already: an answer got lost, and this is asked again
    return keep(health, '', '0') or 0
  end
  local id = event ~= '' and redis.call('XADD', log, 'MAXLEN', '~', length, '*', 'event', event)
  local failed = remember(field, value) or keep(health, event, ttl)
  if failed then
    -- an entry that stayed would be written again at each new attempt
    if id then
      redis.pcall('XDEL', log, id)
    end
    return failed
  end
  if channel ~= '' then
    -- what is on the log must not be undone because the channel is closed to us
    local sent = redis.pcall('PUBLISH', channel, event)
    if type(sent) == 'table' and sent.err then
      return readable and 2 or 4
    end
  end
  return readable and 1 or 3
end

local outcome = {}
for n = 1, #KEYS - 3 do
  local at = 4 + (n - 1) * 8
  local told = tell(KEYS[n + 3], unpack(ARGV, at, at + 7))
  if type(told) == 'table' then
    return told
  end
  outcome[n] = told
end
return outcome
