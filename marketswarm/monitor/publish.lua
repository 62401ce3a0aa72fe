-- include: fence.lua
-- include: marketswarm.bus/lease.lua
-- Publishes verdicts: for each, writes roster, log, health key and channel, or nothing.
--
-- KEYS: the lease, the roster, the log, then a health key for each verdict.
-- ARGV: the fence, the boot of the process that calls, the number of its call, the log's length, then for each
-- verdict nine values:
--   field    in the roster
--   assumed  the verdict that holds while nothing is stored
--   verdict  the new one
--   mark     the event id of a verdict that changes no state, the same from every healer; '' for one that does
--   value    the new roster entry, '' to delete the field
--   event    the alert object, '' for none; it is also the value of the health key
--   channel  the channel to publish the event on, '' for none
--   after    the stored verdict after which alone it goes to the channel, '' for any; if the field is to be deleted,
--            the event goes to the log after that alone, too
--   ttl      of the health key in seconds, 0 to delete the key, -1 to leave it unchanged
-- If a call of the same process with a greater number was here before, returns that number as a string, and writes
-- nothing: this call was given up, and repeated over another connection. The lease has the number of the last call.
--
-- Returns for each verdict 0 (was published already), 1 (published) or 2 (published, but the channel was refused);
-- 3 and 4 are 1 and 2 for a stored entry that could not be read: such an entry shows no state, so the verdict is
-- published. If the server refuses a write, returns that error instead: the verdicts before that one are published,
-- and give 0 the next time.

local roster, log = KEYS[2], KEYS[3]
local boot, number, length = ARGV[3], ARGV[4], ARGV[5]

local last = redis.call('HMGET', KEYS[1], 'caller', 'call')
if last[1] == boot and (whole_number(last[2], 0) or 0) > tonumber(number) then
  return last[2]
end
redis.call('HSET', KEYS[1], 'caller', boot, 'call', number)

-- Returns nil when nothing is stored; else the entry, {} for one that can't be read, and whether it could be read.
local function parse_entry(stored)
  if not stored then
    return nil, true
  end
  local ok, entry = pcall(cjson.decode, stored)
  if ok and type(entry) == 'table' and type(entry.verdict) == 'string' then
    return entry, true
  end
  return {}, false
end

-- Returns true if the stored entry shows that the verdict is published already.
local function is_published(entry, assumed, verdict, mark)
  if mark ~= '' then
    -- if the state has changed meanwhile, the next ok is published instead
    return entry and entry.verdict and (entry.mark == mark or entry.verdict ~= verdict)
  end
  return (entry or { verdict = assumed }).verdict == verdict
end

-- `write_roster` and `write_health_key` return the server's error, nil for success.

-- Returns a reply if it is an error, else nil.
local function refusal(reply)
  return type(reply) == 'table' and reply.err and reply or nil
end

-- Sets a field of the roster, or deletes it for the value ''.
local function write_roster(field, value)
  if value == '' then
    return refusal(redis.pcall('HDEL', roster, field))
  end
  return refusal(redis.pcall('HSET', roster, field, value))
end

-- Sets a health key for `ttl` seconds; 0 deletes it, -1 leaves it unchanged.
local function write_health_key(health, event, ttl)
  if ttl == '-1' then
    return nil
  end
  if ttl == '0' then
    return refusal(redis.pcall('DEL', health))
  end
  return refusal(redis.pcall('SET', health, event, 'EX', ttl))
end

-- Publishes one verdict; returns its outcome, 0 to 4, or the server's error.
local function publish_verdict(health, field, assumed, verdict, mark, value, event, channel, after, ttl)
  local before = redis.call('HGET', roster, field)
  local stored, readable = parse_entry(before)
  if is_published(stored, assumed, verdict, mark) then
    return 0
  end
  if value == '' and not stored then
    -- the field is deleted already: the answer was lost, and this is the second attempt
    return write_health_key(health, '', '0') or 0
  end
  local is_after = after == '' or stored and stored.verdict == after
  local is_logged = event ~= '' and (is_after or value ~= '')
  local id = is_logged and redis.call('XADD', log, 'MAXLEN', '~', length, '*', 'event', event)
  local failed = write_roster(field, value)
  if not failed then
    failed = write_health_key(health, event, ttl)
    if failed then
      -- else the next attempt would take the verdict for published
      write_roster(field, before or '')
    end
  end
  if failed then
    -- else each new attempt would add another event to the log
    if id then
      redis.pcall('XDEL', log, id)
    end
    return failed
  end
  if channel ~= '' and is_after then
    -- a channel that the ACL refuses must not undo the event on the log
    local sent = redis.pcall('PUBLISH', channel, event)
    if type(sent) == 'table' and sent.err then
      return readable and 2 or 4
    end
  end
  return readable and 1 or 3
end

local outcome = {}
for n = 1, #KEYS - 3 do
  local at = 6 + (n - 1) * 9
  local result = publish_verdict(KEYS[n + 3], unpack(ARGV, at, at + 8))
  if type(result) == 'table' then
    return result
  end
  outcome[n] = result
end
return outcome
