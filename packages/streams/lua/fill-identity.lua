#!lua
-- Stores a value in a slot of the identity cache, unless the epoch of the slot has changed meanwhile (purge-identity.lua
-- changes it): KEYS slot · ARGV the epoch that the caller saw, value, ttlMs. Returns 1 when it was stored, else 0.
local held = redis.call('GET', KEYS[1])
local epoch = held and string.match(held, '^%d+') or '0'
if epoch ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
