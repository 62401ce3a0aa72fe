-- Take one request out of what something allows, such as a source, or say how long to wait. All instances share this one account.
-- Each limit is a window of so many seconds. A window is cut into SLOTS slots with a count each, and the sum over the
-- last SLOTS slots and the running one must not exceed the limit: so no stretch of that length, wherever it begins, has
-- more requests than the source allows.
--
-- KEYS  1     the account of the source: a hash, "<seconds>:<slot>" -> requests, "blocked" -> until when (epoch ms),
--             "block_length" -> that and for how long it is, and for who shows it "limits" -> "<seconds>:<requests> …"
--       2     of a source with keys: its own account, where "key:<name>" names the account of each key
-- ARGV  1     take; left: only say how many are left; or block: take no request for a while, since the source asked for
--             that (Retry-After)
--       2     of block: for how many milliseconds; of left: a pause that is over within so many is none
--       3 …   for each window its seconds and its requests
-- Returns the milliseconds to wait before asking again; 0: the request was taken. Of left: for each window how many
-- requests may be sent now.
-- include: pause_end.lua
local SLOTS = 20
local LONGEST_BLOCK_MS = 86400000 -- no caller asks for more
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local found = redis.call('HMGET', KEYS[1], 'blocked', 'block_length')
local blocked = tonumber(found[1] or 0) or 0

local function block_until(ends)
  blocked = ends
  redis.call('HSET', KEYS[1], 'blocked', string.format('%.0f', ends), 'block_length', write_length(ends, ends - now))
end

if blocked > now and bound_end(blocked, found[2], now, LONGEST_BLOCK_MS) < blocked then -- the clock was set back
  block_until(bound_end(blocked, found[2], now, LONGEST_BLOCK_MS))
end
local longest_ms, limits = 0, {}
for at = 3, #ARGV, 2 do
  longest_ms = math.max(longest_ms, tonumber(ARGV[at]) * 1000)
  table.insert(limits, ARGV[at] .. ':' .. ARGV[at + 1])
end
local kept_ms = math.max(longest_ms * 2, 3600000)
if #limits > 0 then
  redis.call('HSET', KEYS[1], 'limits', table.concat(limits, ' '))
  redis.call('PEXPIRE', KEYS[1], math.max(kept_ms, blocked - now + 1000))
end
if KEYS[2] then
  redis.call('HSET', KEYS[2], 'key:' .. string.match(KEYS[1], '[^:]*$'), 1)
  redis.call('PEXPIRE', KEYS[2], kept_ms)
end

if ARGV[1] == 'block' then
  if now + tonumber(ARGV[2]) > blocked then
    block_until(now + tonumber(ARGV[2]))
  end
  redis.call('PEXPIRE', KEYS[1], math.max(kept_ms, blocked - now + 1000))
  return blocked - now
end
if blocked > now and ARGV[1] == 'take' then
  return blocked - now
end

local counts, left, wait_ms = {}, {}, 0
local is_paused = blocked > now + tonumber(ARGV[2])
local stored = redis.call('HGETALL', KEYS[1])
for at = 1, #stored, 2 do
  counts[stored[at]] = tonumber(stored[at + 1]) or 0
end
for at = 3, #ARGV, 2 do
  local window_sec, limit = ARGV[at], tonumber(ARGV[at + 1])
  local slot_ms = tonumber(window_sec) * 1000 / SLOTS
  local slot, used, oldest = math.floor(now / slot_ms), 0, nil
  for field, count in pairs(counts) do
    local sec, number = string.match(field, '^(%d+):(%d+)$')
    number = tonumber(number)
    if sec == window_sec then
      if number < slot - SLOTS or number > slot then -- over, or of a clock that was set back
        redis.call('HDEL', KEYS[1], field)
      else
        used = used + count
        oldest = math.min(oldest or number, number)
      end
    end
  end
  table.insert(left, is_paused and 0 or limit - used)
  if used + 1 > limit then
    wait_ms = math.max(wait_ms, math.ceil((oldest + SLOTS + 1) * slot_ms - now))
  end
end
if ARGV[1] == 'left' then
  return left
end
if wait_ms > 0 then
  return wait_ms
end
for at = 3, #ARGV, 2 do
  local slot_ms = tonumber(ARGV[at]) * 1000 / SLOTS
  redis.call('HINCRBY', KEYS[1], ARGV[at] .. ':' .. string.format('%d', math.floor(now / slot_ms)), 1)
end
return 0
