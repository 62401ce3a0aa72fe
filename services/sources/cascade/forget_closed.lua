-- Forget the open outages that the healer has closed, as the truth did not name sources: one that goes on is missed
-- anew with the next failure, and one that is over is no news.
--
-- KEYS  1   the states of the sources: a hash
-- ARGV  1   the time of the newest event that is closed (epoch ms)
-- Returns the number of outages that were forgotten.
-- include: source_state.lua
local forgotten = 0
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local state = read_state(KEYS[1], name)
  local missed_ms = tonumber(string.match(state.open_event, '%.(%d+)$'))
  if missed_ms and missed_ms <= tonumber(ARGV[1]) then
    state.open_event = ''
    save_state(KEYS[1], state)
    forgotten = forgotten + 1
  end
end
return forgotten
