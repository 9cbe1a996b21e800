#!lua flags=allow-oom
-- Stores an incident: KEYS incidents · ARGV how many to keep (about), field, value, …
-- Allowed when Redis is full, because that is a time when incidents happen.
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
