#!lua flags=allow-oom
-- Moves one entry to the dead letters: KEYS stream, dead-letter stream · ARGV group, id, cap, field, value, …
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
if letters >= tonumber(ARGV[3]) then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))
return letters + 1
