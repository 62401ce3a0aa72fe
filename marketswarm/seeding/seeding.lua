-- What one bus holds of the truth: looked at, written, put back. Each is one step, all or nothing.
--
-- KEYS: the document, truth:meta, truth:history.
-- ARGV[1] says which:
--   look
--     returns: time (ms, the server's), token, document, revision, sha256, seeded_at, seeded_by, the last
--     revision and sha256 of the history, then what `back` needs: for each key its DUMP and its PTTL.
--   write  token, until, document, revision, sha256, seeded_at, seeded_by, length of the history
--     returns: written, already (it holds just that), moved (someone else wrote since the look), or late: a
--     server that was frozen must not do after `until` (ms) what its caller has given up on.
--   back  revision, sha256, then for each key its DUMP ('' for none) and PTTL
--     returns: back, or moved if what is there is not what we wrote.
--
-- The first write is always one that a full server refuses, or a DEL, after which it refuses nothing more: so
-- no script stops half-way for want of memory.

local doc, meta, history = KEYS[1], KEYS[2], KEYS[3]

local function kind(key)
  return redis.call('TYPE', key).ok
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function document()
  return kind(doc) == 'string' and redis.call('GET', doc)
end

local function about(field)
  return kind(meta) == 'hash' and redis.call('HGET', meta, field)
end

local function newest()
  if kind(history) ~= 'stream' then
    return {}
  end
  local entries = redis.call('XREVRANGE', history, '+', '-', 'COUNT', 1)
  local found = {}
  if entries[1] then
    local fields = entries[1][2]
    for n = 1, #fields, 2 do
      found[fields[n]] = fields[n + 1]
    end
  end
  return found
end

local function token()
  local all = ''
  for _, key in ipairs(KEYS) do
    all = all .. redis.sha1hex(redis.call('DUMP', key) or '')
  end
  return redis.sha1hex(all)
end

local function holds(revision, sha256)
  return about('revision') == revision and about('sha256') == sha256
end

local function look()
  local last = newest()
  local found = {
    now_ms(), token(), document(), about('revision'), about('sha256'), about('seeded_at'), about('seeded_by'),
    last.revision or false, last.sha256 or false,
  }
  for _, key in ipairs(KEYS) do
    found[#found + 1] = redis.call('DUMP', key)
    found[#found + 1] = redis.call('PTTL', key)
  end
  return found
end

local function write(seen, until_ms, text, revision, sha256, seeded_at, seeded_by, length)
  if now_ms() > tonumber(until_ms) then
    return 'late'
  end
  local last = newest()
  local in_history = last.revision == revision and last.sha256 == sha256
  if in_history and holds(revision, sha256) and document() == text then
    return 'already'
  end
  if token() ~= seen then
    return 'moved'
  end
  redis.call('SET', doc, text)
  redis.call('DEL', meta)
  redis.call('HSET', meta, 'revision', revision, 'sha256', sha256, 'seeded_at', seeded_at, 'seeded_by', seeded_by)
  if not in_history then
    if kind(history) ~= 'stream' then
      redis.call('DEL', history)
    end
    redis.call('XADD', history, 'MAXLEN', '=', length, '*', 'revision', revision, 'sha256', sha256, 'doc', text)
  end
  return 'written'
end

local function back(revision, sha256, ...)
  if not holds(revision, sha256) then
    return 'moved'
  end
  redis.call('DEL', doc, meta, history)
  local before = {...}
  for n, key in ipairs(KEYS) do
    local dump, ttl = before[2 * n - 1], tonumber(before[2 * n])
    if dump ~= '' then
      redis.call('RESTORE', key, ttl > 0 and ttl or 0, dump)
    end
  end
  return 'back'
end

local what = {look = look, write = write, back = back}
return what[ARGV[1]](unpack(ARGV, 2))
