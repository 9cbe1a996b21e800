#!lua flags=allow-oom
-- Gives a lease back: KEYS lease · ARGV token. Returns 1 if it was ours.
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
