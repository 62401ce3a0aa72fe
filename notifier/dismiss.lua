-- Takes consumers that have nothing pending off a group, all but one; a thousand at most.
-- In one step: one that claims an entry meanwhile would lose it. KEYS[1] is the stream. ARGV: group, consumer to keep.
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
