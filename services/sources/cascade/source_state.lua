-- Change the state of a source: a JSON object in the hash of all sources, for those who read it. Included.
-- A change has the source's name; what is `set`, or only at `first`; which fields become the time of `now`; what is added to which numbers
-- (`add`). One of the verdict has `state` and perhaps `since` instead.
local time = redis.call('TIME')
local now = tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000) / 1000

local function change_source(hash, change)
  local ok, state = pcall(cjson.decode, redis.call('HGET', hash, change.name) or '{}')
  if not ok or type(state) ~= 'table' then -- somebody else wrote it
    state = {}
  end
  state.name, state.state = change.name, (state.state == 'up' or state.state == 'down') and state.state or 'unknown'
  for field, value in pairs(change.set or {}) do
    state[field] = value
  end
  for field, value in pairs(change.first or {}) do
    state[field] = state[field] or value
  end
  for _, field in ipairs(change.now or {}) do
    state[field] = now
  end
  for field, more in pairs(change.add or {}) do
    state[field] = (type(state[field]) == 'number' and state[field] or 0) + more
  end
  if change.state and state.state ~= change.state then
    state.state, state.since = change.state, change.since or now
  end
  redis.call('HSET', hash, change.name, cjson.encode(state))
  return state
end
