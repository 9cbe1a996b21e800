#!lua flags=allow-oom
-- Moves an entry from its stream to the schedule: KEYS stream, schedule · ARGV group, id, delay in ms, the entry as it shall come back.
-- Returns when it is due.
local t = redis.call('TIME')
local due = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[4])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return due
