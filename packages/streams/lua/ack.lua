#!lua flags=allow-oom
-- Acks entries and deletes them: KEYS stream · ARGV group, id… · returns how many were pending in the group.
-- A script and not MULTI, because Redis 7.0 at maxmemory refuses to queue anything in a MULTI, the XACK included, and a queue
-- that cannot be acked can never drain.
local acked = 0
for first = 2, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  acked = acked + redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, first, last))
  redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
end
return acked
