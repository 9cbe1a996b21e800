#!lua flags=allow-oom
-- Moves an entry that waits for a busy host to the schedule, for the host's next free turn: KEYS stream, schedule, host
-- ARGV group, id, the entry, least delay in ms, ms between two turns, most entries in the schedule.
-- Returns when it is due, or 0 when the schedule is full: then nothing happened.
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[6]) then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local h = redis.call('HMGET', KEYS[3], 'turn', 'parkedUntil')
local due = math.max(now + ARGV[4], tonumber(h[1] or 0), tonumber(h[2] or 0))
redis.call('HSET', KEYS[3], 'turn', string.format('%.0f', due + ARGV[5]))
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return due
