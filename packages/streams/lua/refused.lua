#!lua
-- Stores a sample of what was refused: KEYS samples, frames, index · ARGV reason, frame, samples allowed of the reason, bytes allowed of its frames, field, value, …
-- The index is a hash: reason → `id bytes` of each of its samples, oldest first. Only it decides what goes, so that no reason pushes out another.
-- Not allowed when Redis is full: what room there is belongs to acks.
--
-- Every key is touched before one is written: if a later one held another type, a sample would be stored that nothing removes again.
redis.call('XLEN', KEYS[1])
redis.call('HLEN', KEYS[2])
local kept, bytes = {}, #ARGV[2]
for id, size in string.gmatch(redis.call('HGET', KEYS[3], ARGV[1]) or '', '(%S+) (%d+)') do
  kept[#kept + 1] = {id, tonumber(size)}
  bytes = bytes + tonumber(size)
end

local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 5))
redis.call('HSET', KEYS[2], id, ARGV[2])
-- Where somebody has deleted the stream, an id may come a second time.
for i = #kept, 1, -1 do
  if kept[i][1] == id then bytes = bytes - table.remove(kept, i)[2] end
end
kept[#kept + 1] = {id, #ARGV[2]}
local first = 1
while first < #kept and (#kept - first + 1 > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4])) do
  redis.call('XDEL', KEYS[1], kept[first][1])
  redis.call('HDEL', KEYS[2], kept[first][1])
  bytes = bytes - kept[first][2]
  first = first + 1
end

local index = {}
for i = first, #kept do index[#index + 1] = kept[i][1] .. ' ' .. kept[i][2] end
redis.call('HSET', KEYS[3], ARGV[1], table.concat(index, ' '))
return id
