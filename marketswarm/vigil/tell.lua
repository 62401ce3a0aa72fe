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
-- Returns for each verdict 1 (told), 0 (already so) or 2 (told, but the channel was refused); or the server's
-- refusal of a write, and then the verdicts before that one are told, and are "already so" the next time.

local roster, log = KEYS[2], KEYS[3]
local length = ARGV[3]

local function stored_entry(field)
  local stored = redis.call('HGET', roster, field)
  if not stored then
    return nil
  end
  local ok, entry = pcall(cjson.decode, stored)
  -- an entry that nobody can read is as good as none
  return ok and type(entry) == 'table' and entry or nil
end

local function already_so(entry, assumed, verdict, mark)
  if mark ~= '' then
    -- of one that was told down meanwhile its next ok is the news
    return entry and (entry.mark == mark or entry.verdict ~= verdict)
  end
  return (entry and entry.verdict or assumed) == verdict
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
  local stored = stored_entry(field)
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
      return 2
    end
  end
  return 1
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
