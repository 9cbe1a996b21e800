#!lua
-- Puts a dead letter back at the end of its stream: KEYS dead-letter stream, stream · ARGV id, field, value, …
-- Returns 1, or 0 when the dead letter is gone already.
-- XLEN comes first: when the stream's key holds another type, the script must fail before anything is removed.
redis.call('XLEN', KEYS[2])
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return 1
