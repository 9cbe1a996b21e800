#!lua flags=allow-oom
-- Moves an entry from its stream to the schedule, where an account has one entry: KEYS stream, schedule, its entries by DID[, host]
-- ARGV group, id, DID, the entry as it shall come back, least delay in ms
--      [, ms between two turns, most entries in the schedule, the longest that a host may be closed in ms].
-- It failed; or, with a host, it waits for the host's next free turn.
-- Returns when it is due, or 0 when the schedule is full: then nothing happened.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local did, entry, due = ARGV[3], ARGV[4], now + ARGV[5]

-- What waits for the account already. An older version knew of no entries by DID, and left some that are gone.
local waiting = redis.call('ZCARD', KEYS[2])
local earlier = redis.call('HGET', KEYS[3], did)
local earlierDue = earlier and tonumber(redis.call('ZSCORE', KEYS[2], earlier) or nil)

if KEYS[4] then
  if waiting >= tonumber(ARGV[7]) and not earlierDue then return 0 end
  local h = redis.call('HMGET', KEYS[4], 'turn', 'parkedUntil')
  -- Further ahead was stored by a version that had no bound (see acquire.lua): not even with all that waits before it a turn is later than that.
  local function believed(untilMs, longest)
    untilMs = tonumber(untilMs or 0)
    return untilMs <= now + longest and untilMs or 0
  end
  due = math.max(due, believed(h[1], ARGV[8] + (waiting + 1) * ARGV[6]), believed(h[2], ARGV[8]))
  redis.call('HSET', KEYS[4], 'turn', string.format('%.0f', due + ARGV[6]))
end

-- By bytes; Lua compares by the server's locale.
local function later(a, b)
  for i = 1, math.min(#a, #b) do
    if string.byte(a, i) ~= string.byte(b, i) then return string.byte(a, i) > string.byte(b, i) end
  end
  return #a > #b
end

if earlierDue then
  local new, old = cjson.decode(entry), cjson.decode(earlier)
  if later(old.rev or '', new.rev or '') then new.rev = old.rev end
  -- A listed repository may be exported without removals; every other reason asks for them.
  if (new.reason or 'listed') == 'listed' then new.reason = old.reason end
  -- Whoever asks anew for what fails for days begins with no failures: the wait would never become long.
  local failsAlike = old.failure and (new.failure or old.failure) == old.failure
  if failsAlike and (old.attempts or 0) > (new.attempts or 0) then
    new.failure, new.attempts = old.failure, old.attempts
    if not KEYS[4] then due = math.max(due, earlierDue) end
  end
  if KEYS[4] then due = math.min(due, earlierDue) end
  entry = cjson.encode(new)
  redis.call('ZREM', KEYS[2], earlier)
end

redis.call('ZADD', KEYS[2], string.format('%.0f', due), entry)
redis.call('HSET', KEYS[3], did, entry)
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return due
