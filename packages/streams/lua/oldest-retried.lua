#!lua flags=no-writes
-- Looks through one page of a stream for entries that were dead letters before and were put back, without sending them.
-- KEYS stream · ARGV the id to start at, how many entries at most.
-- Returns {id of the last entry of the page, or '' when there is none;
--          the time (unix ms) at which the oldest of those entries first came: 0 when one of them does not say, -1 when there are none}.
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
