#!lua flags=allow-oom
-- Stores an incident: KEYS incidents · ARGV how many to keep, field, value, … Allowed when Redis is full, which is when there are some.
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
