#!lua flags=allow-oom
-- Acks entries and deletes them: KEYS stream · ARGV group, id… · returns how many were pending in the group.
-- This is a script, not a MULTI: at maxmemory, Redis 7.0 refuses every command inside a MULTI, even XACK. A stream whose
-- entries cannot be acked never drains, so Redis would stay full.
local acked = 0
for first = 2, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  acked = acked + redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, first, last))
  redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
end
return acked
