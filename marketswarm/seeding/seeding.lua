-- Reads or writes what one bus holds of the truth. Each call is atomic: it does all or nothing.
--
-- KEYS: the document, truth:meta, truth:history.
-- ARGV[1] names the action; the further values of ARGV are its arguments:
--   look  no arguments
--     returns: the server's time (epoch ms), the token, the document, revision, sha256, seeded_at and seeded_by
--     of truth:meta, revision, sha256 and id of the newest history entry (false for what is missing; id 0-0 if
--     there is no entry), then what `back.lua` needs besides: the fields and values of truth:meta, and for each
--     key its state (none, other, or its type if that is right), its DUMP if other, its PTTL in ms.
--   write  token, until, document, revision, sha256, seeded_at, seeded_by
--     returns: written; already (the bus holds exactly this); moved (the truth has changed since the look that
--     returned the token); or late (the server's time is after `until`, in epoch ms: a server that was frozen
--     must not do what its caller has given up).
--   trim  the number of history entries to keep, called once nothing has to be restored any more
--     returns: the number of entries deleted
--
-- A full server refuses this script before it begins, so it never stops half-way for lack of memory.

local doc, meta, history = KEYS[1], KEYS[2], KEYS[3]

-- Return the type of a key; none if it does not exist.
local function get_type(key)
  return redis.call('TYPE', key).ok
end

-- Return the server's time in epoch milliseconds.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return the document; false if its key is missing or holds no string.
local function get_document()
  return get_type(doc) == 'string' and redis.call('GET', doc)
end

-- Return a field of truth:meta; false if the field or the hash is missing.
local function get_meta_field(field)
  return get_type(meta) == 'hash' and redis.call('HGET', meta, field)
end

-- Return the fields of the newest entry of truth:history and its `id`; an empty table if there is no entry.
local function get_newest_entry()
  if get_type(history) ~= 'stream' then
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

-- Return a hash of the truth on this bus; `last` is the newest history entry. A seeding changes the revision, the
-- sha256 or the newest entry; a write to the document alone changes its bytes.
local function make_token(last)
  local text = get_document()
  local parts = {
    text and redis.sha1hex(text) or get_type(doc), get_meta_field('revision') or '',
    get_meta_field('sha256') or '', get_type(meta), get_type(history), last.id or '',
  }
  return redis.sha1hex(table.concat(parts, '\n'))
end

-- Return true if truth:meta has this revision and sha256.
local function has_revision(revision, sha256)
  return get_meta_field('revision') == revision and get_meta_field('sha256') == sha256
end

-- Return a key's state, its DUMP if its type is not the expected one (else ''), and its PTTL: `back.lua` can't
-- restore these from the rest of a look.
local function get_key_state(key, expected)
  local found = get_type(key)
  local other = found ~= expected and found ~= 'none'
  return { other and 'other' or found, other and redis.call('DUMP', key) or '', redis.call('PTTL', key) }
end

-- Return the answer to `look`, see above.
local function look()
  local last = get_newest_entry()
  return {
    now_ms(), make_token(last), get_document(), get_meta_field('revision'), get_meta_field('sha256'),
    get_meta_field('seeded_at'), get_meta_field('seeded_by'),
    last.revision or false, last.sha256 or false, last.id or '0-0',
    get_type(meta) == 'hash' and redis.call('HGETALL', meta) or {},
    get_key_state(doc, 'string'), get_key_state(meta, 'hash'), get_key_state(history, 'stream'),
  }
end

-- Write the truth unless it is late, already there or changed since; add a history entry unless the newest is equal.
local function write(seen, until_ms, text, revision, sha256, seeded_at, seeded_by)
  if now_ms() > tonumber(until_ms) then
    return 'late'
  end
  local last = get_newest_entry()
  local in_history = last.revision == revision and last.sha256 == sha256
  if in_history and has_revision(revision, sha256) and get_document() == text then
    return 'already'
  end
  if make_token(last) ~= seen then
    return 'moved'
  end
  redis.call('SET', doc, text)
  redis.call('DEL', meta)
  redis.call('HSET', meta, 'revision', revision, 'sha256', sha256, 'seeded_at', seeded_at, 'seeded_by', seeded_by)
  if not in_history then
    if get_type(history) ~= 'stream' then
      redis.call('DEL', history)
    end
    redis.call('XADD', history, '*', 'revision', revision, 'sha256', sha256, 'doc', text, 'seeded_at', seeded_at,
      'seeded_by', seeded_by)
  end
  return 'written'
end

-- Trim truth:history to `length` entries; return how many were deleted, 0 if the key holds no stream.
local function trim(length)
  return get_type(history) == 'stream' and redis.call('XTRIM', history, 'MAXLEN', '=', length) or 0
end

local actions = {look = look, write = write, trim = trim}
return actions[ARGV[1]](unpack(ARGV, 2))
