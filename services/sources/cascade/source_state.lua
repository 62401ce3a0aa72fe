-- The state of a source, and the events when it is missed and back. Included by the scripts that change it.
-- A state is a JSON object in the hash of all sources. `pending` has the events that are not on the stream of alerts
-- yet, by id: that stream is on another bus, and its entries are written afterwards, each once.

local function read_state(hash, name)
  local ok, state = pcall(cjson.decode, redis.call('HGET', hash, name) or '{}')
  if not ok or type(state) ~= 'table' then -- somebody else wrote it
    state = {}
  end
  local numbers = {'since', 'asked_at', 'ok_at', 'fails', 'answers', 'failures', 'limited', 'records', 'event_ms',
    'checked_at', 'refusals'}
  for _, field in ipairs(numbers) do
    state[field] = type(state[field]) == 'number' and state[field] or 0
  end
  state.name, state.open_event = name, type(state.open_event) == 'string' and state.open_event or ''
  state.state = (state.state == 'up' or state.state == 'down') and state.state or 'unknown'
  state.pending = type(state.pending) == 'table' and state.pending or {}
  return state
end

local function add_event(state, kind, now_ms, more)
  -- readers order events by their time: even with a clock that was set back, an end comes after its beginning
  state.event_ms = math.max(now_ms, state.event_ms + 1)
  local id = string.format('%s.source:%s.%d', kind, state.name, state.event_ms)
  local event = {type = kind, svc = 'source:' .. state.name, ts = state.event_ms / 1000, id = id, by = 'sources'}
  for field, value in pairs(more) do
    event[field] = value
  end
  state.pending[id] = event
  return id
end

local function save_state(hash, state)
  redis.call('HSET', hash, state.name, cjson.encode(state))
end
