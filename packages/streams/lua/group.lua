#!lua flags=allow-oom
-- Makes a group from the beginning of its stream, with the stream when needed: KEYS stream · ARGV group.
-- Returns 1, or 0 when it was there. Allowed when Redis is full: XGROUP CREATE alone is refused then even for a group that exists, and
-- a consumer that cannot start cannot drain it.
local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply.ok then return 1 end
if string.sub(reply.err, 1, 9) == 'BUSYGROUP' then return 0 end
return reply
