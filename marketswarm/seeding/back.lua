-- flags: allow-oom
-- Restores what a bus held of the truth before `seeding.lua` wrote to it, even if the server is full by now.
--
-- KEYS: the document, truth:meta, truth:history.
-- ARGV: the revision and the sha256 that we wrote; then, as they were before: the document, the id of the newest
--   history entry, the number of fields and values of truth:meta, these fields and values, and for each key its
--   state (none, other, or its type if that was right), its DUMP if the state is other, its PTTL in ms.
-- Returns back, or moved if truth:meta no longer has the revision and sha256 that we wrote; then nothing changes.

local doc, meta, history = KEYS[1], KEYS[2], KEYS[3]
local revision, sha256, text, newest, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local current = redis.call('TYPE', meta).ok == 'hash' and redis.call('HMGET', meta, 'revision', 'sha256') or {}
if current[1] ~= revision or current[2] ~= sha256 then
  return 'moved'
end

-- by key, the function that restores it if its type was right; of the history, it deletes the newer entries
local restore = {
  [doc] = function()
    redis.call('SET', doc, text)
  end,
  [meta] = function()
    redis.call('DEL', meta)
    redis.call('HSET', meta, unpack(ARGV, 6, 5 + count))
  end,
  [history] = function()
    for _, entry in ipairs(redis.call('XRANGE', history, '(' .. newest, '+')) do
      redis.call('XDEL', history, entry[1])
    end
  end,
}
for n, key in ipairs(KEYS) do
  local at = 6 + count + 3 * (n - 1)
  local state, dump, ttl = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if state == 'none' then
    redis.call('DEL', key)
  elseif state == 'other' then
    redis.call('RESTORE', key, ttl > 0 and ttl or 0, dump, 'REPLACE')
  else
    restore[key]()
    if ttl > 0 then
      redis.call('PEXPIRE', key, ttl)
    end
  end
end
return 'back'
