#!lua flags=allow-oom
-- Makes a group that reads its stream from the beginning; makes the stream too if there is none: KEYS stream · ARGV group.
-- Returns 1, or 0 when the group existed already.
-- Allowed when Redis is full: a plain XGROUP CREATE is refused then, even for a group that exists, and a consumer that
-- cannot start cannot drain Redis.
local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply.ok then return 1 end
if string.sub(reply.err, 1, 9) == 'BUSYGROUP' then return 0 end
return reply
