-- Take an event that is on the stream of alerts now out of the pending ones.
--
-- KEYS  1   the states of the sources: a hash
-- ARGV  1   the source
--       2   the id of the event
-- include: source_state.lua
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  local state = read_state(KEYS[1], ARGV[1])
  state.pending[ARGV[2]] = nil
  if state.gone and not next(state.pending) then -- the truth does not name it any more
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    save_state(KEYS[1], state)
  end
end
return 1
