-- Claims pending entries of a stream for a consumer.
-- KEYS[1]: the stream.
-- ARGV: the arguments of XAUTOCLAIM after the key: group, consumer, least idle milliseconds, start id, options.
-- Returns the reply of XAUTOCLAIM: the id to go on from (`0-0` at the end), the claimed entries, deleted ids.
return redis.call('XAUTOCLAIM', KEYS[1], unpack(ARGV))
