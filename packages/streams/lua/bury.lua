#!lua flags=allow-oom
-- Moves one entry to the dead letters: KEYS stream, dead-letter stream[, its latest letters by key] · ARGV group, id, cap, key, field, value, …
-- Where letters have keys, a letter takes the place of the earlier one of its key.
-- Returns how many dead letters there are then, or 0 when there is room for none: then nothing happened, and the entry stays pending.
--
-- Allowed when Redis is full, since poison that cannot be put aside would keep a full Redis from ever draining; the memory stays about
-- the same. Twice after a lost answer is once: an entry that is gone may be among the newest dead letters already.
local letters = redis.call('XLEN', KEYS[2])
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) == 0 then
  for _, letter in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 100)) do
    for f = 1, #letter[2], 2 do
      if letter[2][f] == 'id' and letter[2][f + 1] == ARGV[2] then return letters end
    end
  end
end
local earlier = KEYS[3] and redis.call('HGET', KEYS[3], ARGV[4])
-- It may have been put back or dropped.
if earlier and #redis.call('XRANGE', KEYS[2], earlier, earlier) == 0 then earlier = false end
if letters >= tonumber(ARGV[3]) and not earlier then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
if KEYS[3] then
  -- Nobody takes out of it what is put back or dropped. What is lost with it: an earlier letter stays beside a later one.
  if letters == 0 or redis.call('HLEN', KEYS[3]) >= 2 * tonumber(ARGV[3]) then redis.call('DEL', KEYS[3]) end
  redis.call('HSET', KEYS[3], ARGV[4], id)
end
if earlier then letters = letters - redis.call('XDEL', KEYS[2], earlier) end
return letters + 1
