#!lua flags=allow-oom
-- Notes that work on an entry alone begins: KEYS suspects · ARGV entry id, ttlMs · returns how often it began and did not end.
-- Allowed when Redis is full: poison must be found then too.
local begun = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return begun
