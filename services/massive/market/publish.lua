-- Publish the bars that are not on the stream yet, and those with other values; record them; then move marks. One step.
-- A day of a symbol is one string: 180 bytes with a bit for each minute whose bar is on the stream, then four bytes for
-- each minute, a digest of its values. Where these are 0, an older release published the bar, and it counts as the same.
--
-- KEYS  1     the stream of bars
--       2     the marks: a hash, symbol -> start of the bar up to which it is complete (epoch ms)
--       3 …   what is on the stream, one key for each symbol and day
-- ARGV  1     length of the stream, about
--       2     seconds for which days and marks are kept
--       3     the latest mark that can be right (epoch ms); a later one came from a wrong clock
--       4     number of bars; then for each bar four values: the index in KEYS of its day, its minute of the day, the
--             digest of its values, its fields (JSON array of names and values)
--       then for each mark that moves three values: symbol, previous mark (-1: none), new mark
-- Returns {number of bars that were published, number of marks that were below their previous value}. Such a mark is not
-- moved: the server has lost what was written since, and it must be requested again.
local BITS_BYTES, DIGEST_BYTES = 180, 4
local UNKNOWN = string.rep('\0', DIGEST_BYTES)
local new, behind, at = 0, 0, 5
for _ = 1, tonumber(ARGV[4]) do
  local day, minute, digest = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local place = BITS_BYTES + DIGEST_BYTES * minute
  local is_there, known = redis.call('GETBIT', day, minute) == 1, digest
  if is_there then
    known = redis.call('GETRANGE', day, place, place + DIGEST_BYTES - 1)
  end
  if not is_there or (#known == DIGEST_BYTES and known ~= UNKNOWN and known ~= digest) then
    -- first the bar, then its bit: a server without memory refuses the first, and so records nothing
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(cjson.decode(ARGV[at + 3])))
    redis.call('SETBIT', day, minute, 1)
    new = new + 1
  end
  if not is_there or known ~= digest then
    redis.call('SETRANGE', day, place, digest)
  end
  redis.call('EXPIRE', day, ARGV[2])
  at = at + 4
end
for mark = at, #ARGV, 3 do
  local raw = redis.call('HGET', KEYS[2], ARGV[mark])
  local stored = raw and string.match(raw, '^%d+$') and tonumber(raw) or -1
  if stored < tonumber(ARGV[mark + 1]) then
    behind = behind + 1
  -- only forward, since another connection may have been further; or back from where a wrong clock put it
  elseif stored < tonumber(ARGV[mark + 2]) or stored > tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[2], ARGV[mark], ARGV[mark + 2])
  end
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return {new, behind}
