#!lua flags=allow-oom
-- Moves one entry to the dead letters.
-- KEYS stream, dead-letter stream[, the hash of the latest letter of each key] · ARGV group, id, cap, key, field, value, …
-- With a third key, the letter replaces the earlier letter of the same key.
-- Returns how many dead letters there are now. Returns 0 when the dead-letter stream is full: then nothing has happened,
-- and the entry stays pending.
--
-- Allowed when Redis is full: poison that cannot be moved away would keep a full Redis from ever draining. The memory in
-- use stays about the same.
--
-- The caller may run this again when the answer got lost. The entry is gone then. Before anything is stored, it is
-- looked for among the newest 100 dead letters, so that one entry does not become two letters.
local letters = redis.call('XLEN', KEYS[2])
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) == 0 then
  for _, letter in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 100)) do
    for f = 1, #letter[2], 2 do
      if letter[2][f] == 'id' and letter[2][f + 1] == ARGV[2] then return letters end
    end
  end
end
local earlier = KEYS[3] and redis.call('HGET', KEYS[3], ARGV[4])
-- The earlier letter may have been retried or dropped since.
if earlier and #redis.call('XRANGE', KEYS[2], earlier, earlier) == 0 then earlier = false end
if letters >= tonumber(ARGV[3]) and not earlier then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
if KEYS[3] then
  -- Letters that are retried or dropped are not removed from the hash, so it is emptied now and then. After that an
  -- earlier letter of a key may stay beside a later one.
  if letters == 0 or redis.call('HLEN', KEYS[3]) >= 2 * tonumber(ARGV[3]) then redis.call('DEL', KEYS[3]) end
  redis.call('HSET', KEYS[3], ARGV[4], id)
end
if earlier then letters = letters - redis.call('XDEL', KEYS[2], earlier) end
return letters + 1
