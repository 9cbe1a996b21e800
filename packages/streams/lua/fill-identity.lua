#!lua
-- Fills a slot of the identity cache, unless its epoch is another by now: KEYS slot · ARGV epoch, value, ttlMs. Returns 1 when it did.
local held = redis.call('GET', KEYS[1])
local epoch = held and string.match(held, '^%d+') or '0'
if epoch ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
