-- Takes over entries that their consumer did not settle. KEYS[1] is the stream, ARGV what XAUTOCLAIM takes after it.
return redis.call('XAUTOCLAIM', KEYS[1], unpack(ARGV))
