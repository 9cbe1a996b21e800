#!lua flags=allow-oom
-- Notes that an entry is about to be worked on by itself, because it may be what ended its process.
-- KEYS suspects · ARGV entry id, ttlMs · returns how often that work has begun and not ended, this time included.
-- Allowed when Redis is full: poison must be found then too.
local begun = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return begun
