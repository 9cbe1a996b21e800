#!lua flags=allow-oom
-- Empties a slot of the identity cache and gives it a new epoch: KEYS slot · ARGV value, ttlMs.
-- Allowed when Redis is full: what the slot held takes more room than what replaces it.
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
