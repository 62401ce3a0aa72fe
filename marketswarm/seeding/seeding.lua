-- What one bus holds of the truth: looked at, written. Each is one step, all or nothing.
--
-- KEYS: the document, truth:meta, truth:history.
-- ARGV[1] says which:
--   look
--     returns: time (ms, the server's), token, document, revision, sha256, seeded_at, seeded_by, of the newest
--     entry of the history revision, sha256 and id, then what `back.lua` needs besides: the fields of truth:meta,
--     and for each key what it is (none, other, or as it should be), its DUMP if other, its PTTL.
--   write  token, until, document, revision, sha256, seeded_at, seeded_by
--     returns: written, already (it holds just that), moved (someone else wrote since the look), or late: a
--     server that was frozen must not do after `until` (ms) what its caller has given up on.
--   trim  length of the history, once nothing has to be put back any more
--
-- A full server refuses it before it begins, so it never stops half-way for want of memory.

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
    found.id = entries[1][1]
  end
  return found
end

-- Whoever seeds changes the revision, the sha256 or the newest entry; who only wrote another document, its bytes.
local function token(last)
  local text = document()
  local parts = {
    text and redis.sha1hex(text) or kind(doc), about('revision') or '', about('sha256') or '', kind(meta),
    kind(history), last.id or '',
  }
  return redis.sha1hex(table.concat(parts, '\n'))
end

local function holds(revision, sha256)
  return about('revision') == revision and about('sha256') == sha256
end

-- What `back.lua` can't take from the rest: a key of a kind that it should not be is small, or a mistake to see.
local function before(key, expected)
  local found = kind(key)
  local other = found ~= expected and found ~= 'none'
  return { other and 'other' or found, other and redis.call('DUMP', key) or '', redis.call('PTTL', key) }
end

local function look()
  local last = newest()
  return {
    now_ms(), token(last), document(), about('revision'), about('sha256'), about('seeded_at'), about('seeded_by'),
    last.revision or false, last.sha256 or false, last.id or '0-0',
    kind(meta) == 'hash' and redis.call('HGETALL', meta) or {},
    before(doc, 'string'), before(meta, 'hash'), before(history, 'stream'),
  }
end

local function write(seen, until_ms, text, revision, sha256, seeded_at, seeded_by)
  if now_ms() > tonumber(until_ms) then
    return 'late'
  end
  local last = newest()
  local in_history = last.revision == revision and last.sha256 == sha256
  if in_history and holds(revision, sha256) and document() == text then
    return 'already'
  end
  if token(last) ~= seen then
    return 'moved'
  end
  redis.call('SET', doc, text)
  redis.call('DEL', meta)
  redis.call('HSET', meta, 'revision', revision, 'sha256', sha256, 'seeded_at', seeded_at, 'seeded_by', seeded_by)
  if not in_history then
    if kind(history) ~= 'stream' then
      redis.call('DEL', history)
    end
    redis.call('XADD', history, '*', 'revision', revision, 'sha256', sha256, 'doc', text)
  end
  return 'written'
end

local function trim(length)
  return kind(history) == 'stream' and redis.call('XTRIM', history, 'MAXLEN', '=', length) or 0
end

local what = {look = look, write = write, trim = trim}
return what[ARGV[1]](unpack(ARGV, 2))
