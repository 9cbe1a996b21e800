#!lua flags=allow-oom
-- Removes a consumer that has nothing pending: KEYS stream · ARGV group, consumer.
-- Returns 1 if it was removed. DELCONSUMER discards the consumer's pending entries, so the check that there are none and
-- the removal must be one step.
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for i = 1, #consumer, 2 do info[consumer[i]] = consumer[i + 1] end
  if info.name == ARGV[2] and info.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
  end
end
return 0
