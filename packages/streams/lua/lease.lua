#!lua flags=allow-oom
-- Takes or renews a lease: KEYS lease · ARGV token, ttlMs, details.
-- Returns {1} when the lease is ours now, or {0, details of the holder, ms until the holder's lease ends}.
-- Allowed when Redis is full: a consumer that cannot start cannot drain Redis.
local held = redis.call('HMGET', KEYS[1], 'token', 'details')
local leftMs = redis.call('PTTL', KEYS[1])
if held[1] and held[1] ~= ARGV[1] and leftMs > 0 then return {0, held[2], leftMs} end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'details', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {1}
