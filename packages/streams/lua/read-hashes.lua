#!lua flags=no-writes
-- Reads one field of each of many hashes: KEYS hash… · ARGV field…, as many. Returns the values in that order; false for what is absent.
local found = {}
for i = 1, #KEYS do found[i] = redis.call('HGET', KEYS[i], ARGV[i]) end
return found
