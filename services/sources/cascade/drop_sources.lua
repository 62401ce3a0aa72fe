-- Forget the sources and series that no longer are in the truth; an outage that was reported ends as `source_unwatched`.
--
-- KEYS  1   the states of the sources: a hash
--       2   the states of the series: a hash
-- ARGV  1   number of sources; then the name of each; then the series
-- Returns the number of pending events.
-- include: source_state.lua
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local pending = 0
for at = 2, 1 + tonumber(ARGV[1]) do
  local state = read_state(KEYS[1], ARGV[at])
  if state.open_event ~= '' then
    add_event(state, 'source_unwatched', now_ms, {since = state.since})
    state.open_event = ''
  end
  state.state, state.gone = 'unknown', true
  if next(state.pending) then
    pending = pending + 1
    save_state(KEYS[1], state) -- until its event is on the stream of alerts
  else
    redis.call('HDEL', KEYS[1], ARGV[at])
  end
end
for at = 2 + tonumber(ARGV[1]), #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[at])
end
return pending
