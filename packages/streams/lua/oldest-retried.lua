#!lua flags=no-writes
-- Looks through a page of a stream for entries that were dead letters before, without sending them: KEYS stream · ARGV first id, most entries.
-- Returns {id of the last entry or '', ms at which the oldest of those first came; 0 when one does not say, -1 when there is none}.
local last, oldest = '', -1
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  last = entry[1]
  local retried, first = false, ''
  for f = 1, #entry[2], 2 do
    if entry[2][f] == 'retries' then retried = true end
    if entry[2][f] == 'first' then first = entry[2][f + 1] end
  end
  if retried then
    local ms = tonumber(string.match(first, '^%d+')) or 0
    if oldest == -1 or ms < oldest then oldest = ms end
  end
end
return {last, oldest}
