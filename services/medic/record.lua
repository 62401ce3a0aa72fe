-- Store repairs, the fuse, entries of timelines and evidence, and delete used approvals, unless a newer medic has
-- written.
-- KEYS  1  the state: a hash
--       2  the timelines: a stream
--       3  the approvals: a hash
--       4  the evidence: a stream
-- ARGV  1  the epoch of the caller's lease
--       2  length of the timelines, about
--       3  number of fields; then for each its name and its value, '' to delete it
--       then the number of approvals to delete, and their ids
--       then the length of the evidence, about, the number of its entries, and these (JSON)
--       then the entries of the timelines (JSON)
-- Returns 1 if it is done; 0 if a medic with a higher epoch has written: nothing was written.
-- The state is written last: if the server refuses a write before it, what is in the state is as before.

local epoch = tonumber(ARGV[1])
local stored = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '')
-- An epoch is at least the time in ms at which its lease was taken. So one that is five minutes ahead of both the
-- clock and the caller's own was not written by a medic, and keeps none out; after the clock was set back, the
-- epochs of all medics are ahead of it alike.
local time = redis.call('TIME')
local latest = math.max(time[1] * 1000, epoch) + 300000
if stored and stored > epoch and stored < latest then
  return 0
end

local function add(stream, length, entry)
  local id = redis.pcall('XADD', stream, 'MAXLEN', '~', length, '*', 'entry', entry)
  if type(id) == 'table' and id.err then
    local why = tostring(id.err)
    if not string.find(why, 'smaller') and not string.find(why, 'exhausted') then
      return id
    end
    -- an entry with the last possible id ended the stream: it begins anew
    redis.call('DEL', stream)
    redis.call('XADD', stream, '*', 'entry', entry)
  end
end

local first = 4
local after = first + 2 * tonumber(ARGV[3])
local kept = after + 1 + tonumber(ARGV[after])
local told = kept + 2 + tonumber(ARGV[kept + 1])
for at = kept + 2, #ARGV do
  local is_evidence = at < told
  local failed = add(KEYS[is_evidence and 4 or 2], ARGV[is_evidence and kept or 2], ARGV[at])
  if failed then
    return failed
  end
end
for at = after + 1, kept - 1 do
  redis.call('HDEL', KEYS[3], ARGV[at])
end
for at = first, after - 1, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[at])
  else
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return 1
