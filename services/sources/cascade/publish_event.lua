-- Put an event on the stream of alerts, unless it is among its latest entries: another instance may have been faster.
--
-- KEYS  1   the stream of alerts
-- ARGV  1   length of the stream, about
--       2   how many of its latest entries are looked at
--       3   the event (JSON)
-- Returns 1 if it was put there, else 0.
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2])) do
  if entry[2][2] == ARGV[3] then
    return 0
  end
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'event', ARGV[3])
return 1
