-- Moves entries that are due back to the end of their stream.
-- KEYS schedule, stream, the schedule's entries by DID · ARGV the field of an entry, how many entries to move at most.
-- Returns {how many were moved, ms until the next one is due, or -1 when there is none}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local entries = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[2])
for _, entry in ipairs(entries) do
  redis.call('XADD', KEYS[2], '*', ARGV[1], entry)
  redis.call('ZREM', KEYS[1], entry)
  -- Other programs may have put anything into the schedule. It goes to the stream all the same: the reader of the stream
  -- reports what is wrong with it.
  local isJson, event = pcall(cjson.decode, entry)
  local did = isJson and type(event) == 'table' and event.did
  if type(did) == 'string' and redis.call('HGET', KEYS[3], did) == entry then redis.call('HDEL', KEYS[3], did) end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {#entries, first[2] and math.max(0, first[2] - now) or -1}
