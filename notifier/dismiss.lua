-- Removes consumers that have no pending entries from a consumer group, a thousand at most.
-- This is one script because a consumer that claimed an entry between two commands would lose that entry.
-- KEYS[1]: the stream.
-- ARGV: the group, the name of a consumer to keep.
-- Returns the number of consumers that were removed.
local dismissed = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for at = 1, #flat, 2 do
    consumer[flat[at]] = flat[at + 1]
  end
  if consumer.pending == 0 and consumer.name ~= ARGV[2] and dismissed < 1000 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    dismissed = dismissed + 1
  end
end
return dismissed
