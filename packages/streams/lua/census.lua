#!lua flags=no-writes
-- Counts the dead letters of one page by their reason, without sending their payload.
-- KEYS dead-letter stream · ARGV the id to start at, how many letters at most.
-- Returns {id of the last letter, reason, count, reason, count, …}; the id is '' when there is no letter.
local last, counts = '', {}
for _, letter in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  last = letter[1]
  local reason = 'unknown'
  for f = 1, #letter[2], 2 do
    if letter[2][f] == 'reason' then reason = letter[2][f + 1] end
  end
  counts[reason] = (counts[reason] or 0) + 1
end
local reply = {last}
for reason, count in pairs(counts) do
  reply[#reply + 1] = reason
  reply[#reply + 1] = count
end
return reply
