-- Publish one load of a series: its new and changed records, its requests, its state and that of the sources that were
-- asked. All in one step, so that nobody reads half of a load and a repeated answer adds nothing.
--
-- KEYS  1   the stream of the records
--       2   the records that were published: a sorted set by time, "<identity>|<rank of its source>|<digest>"
--       3   the stream of requests
--       4   the states of the series: a hash
--       5   the states of the sources: a hash
--       6   the claim of the load
-- ARGV  1   the token of the claim
--       2   the series
--       3   the id of the load
--       4   the new state of the series (JSON), which gets `records`, the number of new ones, and `load`, the id
--       5   length of the stream of records, about
--       6   length of the stream of requests, about
--       7   number of records to remember
--       8   seconds for which they are remembered
--       9   failures in a row after which a source is missed
--       10  rank of the source in the cascade, 0 for the first. A record is replaced by its own source, which corrects
--           it, or by one before that; the same record of a later source is no news
--       11  number of records; then for each, sorted by time: time (epoch ms), identity, digest, fields (JSON array)
--       then the number of requests, and for each the ids of the loads with which it may have been recorded, with
--       spaces between them, and its fields (JSON array). It was, if the load that was published last is one of these
--       then the number of sources, and for each what came of it (JSON): name, outcome, reason, ok (true, false or
--       null for neither), answered, limited, records
-- Returns {number of records that were new or changed, number of pending events}; {-1, 0} if the claim is lost, and
-- then nothing was written.
-- include: source_state.lua
if redis.call('GET', KEYS[6]) ~= ARGV[1] then
  return {-1, 0}
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- the records
local rank, count, at = tonumber(ARGV[10]), tonumber(ARGV[11]), 12
local known, oldest = {}, nil
if count > 0 then
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[at], ARGV[at + 4 * (count - 1)])) do
    local identity, its_rank, digest = string.match(member, '^([^|]*)|(%d+)|(.*)$')
    if identity then
      known[identity] = {member = member, rank = tonumber(its_rank), digest = digest}
    else -- somebody else wrote it, or an older version: what it says of a record is not known
      redis.call('ZREM', KEYS[2], member)
    end
  end
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[7]) then
    oldest = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2])
  end
end
local new = 0
for _ = 1, count do
  local identity, digest = ARGV[at + 1], ARGV[at + 2]
  local before = known[identity]
  local is_new = not before or (before.digest ~= digest and rank <= before.rank)
  -- what is older than all that is remembered may have been published
  if is_new and not (oldest and tonumber(ARGV[at]) < oldest) then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', unpack(cjson.decode(ARGV[at + 3])))
    new = new + 1
  end
  if is_new or rank < before.rank then
    local member = identity .. '|' .. rank .. '|' .. digest
    if before then
      redis.call('ZREM', KEYS[2], before.member)
    end
    redis.call('ZADD', KEYS[2], ARGV[at], member)
    known[identity] = {member = member, rank = rank, digest = digest}
  end
  at = at + 4
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[7]) - 1)
redis.call('EXPIRE', KEYS[2], ARGV[8])

-- the requests
local last = string.match(redis.call('HGET', KEYS[4], ARGV[2]) or '', '^{"load":"(%x+)"')
count, at = tonumber(ARGV[at]), at + 1
for _ = 1, count do
  if not (last and string.find(ARGV[at], last, 1, true)) then
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', unpack(cjson.decode(ARGV[at + 1])))
  end
  at = at + 2
end

-- the states
local of_load = '{"load":"' .. ARGV[3] .. '","records":' .. new .. ','
redis.call('HSET', KEYS[4], ARGV[2], (string.gsub(ARGV[4], '^{', of_load, 1)))
count, at = tonumber(ARGV[at]), at + 1
local pending = 0
for _ = 1, count do
  local seen = cjson.decode(ARGV[at])
  local state = read_state(KEYS[5], seen.name)
  state.gone = nil
  state.outcome, state.reason, state.asked_at = seen.outcome, seen.reason, now_ms / 1000
  state.records = state.records + seen.records
  state.answers, state.limited = state.answers + seen.answered, state.limited + seen.limited
  if seen.ok == true then
    if state.open_event ~= '' then
      add_event(state, 'source_ok', now_ms, {since = state.since, down_sec = math.max(0, now_ms / 1000 - state.since)})
    end
    if state.state ~= 'up' then
      state.state, state.since = 'up', now_ms / 1000
    end
    state.fails, state.open_event, state.ok_at, state.failed_since = 0, '', now_ms / 1000, nil
  elseif seen.ok == false then
    state.fails, state.failures = state.fails + 1, state.failures + 1
    state.failed_since = type(state.failed_since) == 'number' and state.failed_since or now_ms / 1000
    if state.state ~= 'down' and state.fails >= tonumber(ARGV[9]) then
      state.state, state.since = 'down', state.failed_since
      state.open_event = add_event(state, 'source_miss', now_ms,
        {since = state.since, late_sec = math.max(0, now_ms / 1000 - state.since), reason = seen.reason})
    end
  end
  for _ in pairs(state.pending) do
    pending = pending + 1
  end
  save_state(KEYS[5], state)
  at = at + 1
end
redis.call('DEL', KEYS[6])
return {new, pending}
