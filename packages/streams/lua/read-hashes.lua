#!lua flags=no-writes
-- Reads one field of each hash: KEYS hash… · ARGV one field for each hash.
-- Returns the values in that order, with false for each one that is absent.
local found = {}
for i = 1, #KEYS do found[i] = redis.call('HGET', KEYS[i], ARGV[i]) end
return found
