#!lua flags=allow-oom
-- Moves an entry from its stream to the schedule, where an account has one entry: KEYS stream, schedule, its entries by DID[, host]
-- ARGV group, id, DID, the entry as it shall come back, least delay in ms
--      [, ms between two turns, most entries in the schedule, the longest that a host may be closed in ms, how long a host is remembered in ms at least].
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
  local kept = due - now + ARGV[9]
  if redis.call('PTTL', KEYS[4]) < kept then redis.call('PEXPIRE', KEYS[4], string.format('%.0f', kept)) end
end

-- By bytes; Lua compares by the server's locale.
local function later(a, b)
  for i = 1, math.min(#a, #b) do
    if string.byte(a, i) ~= string.byte(b, i) then return string.byte(a, i) > string.byte(b, i) end
  end
  return #a > #b
end

-- Other programs write entries too, and cjson does not read all that is JSON: not half of a surrogate pair.
local function read(json)
  local isJson, event = pcall(cjson.decode, json)
  return isJson and type(event) == 'table' and event or nil
end
local function text(value) return type(value) == 'string' and value or nil end
local function count(value) return type(value) == 'number' and value < 1e9 and value or 0 end

-- What both entries of an account want, the newer one with what the older adds.
local function join(new, old)
  local rev, failure = text(old.rev) or '', text(old.failure)
  if later(rev, text(new.rev) or '') then new.rev = rev end
  -- A listed repository may be exported without removals; every other reason asks for them.
  if (text(new.reason) or 'listed') == 'listed' then new.reason = text(old.reason) end
  -- Whoever asks anew for what fails for days begins with no failures: the wait would never become long.
  local failsAlike = failure and (text(new.failure) or failure) == failure
  if failsAlike and count(old.attempts) > count(new.attempts) then
    new.failure, new.attempts, new.failingSince = failure, old.attempts, old.failingSince
    if not KEYS[4] then due = math.max(due, earlierDue) end
  end
  -- Of as many failures the row that began earlier.
  local since = failsAlike and old.attempts == new.attempts and tonumber(old.failingSince)
  if since and since < (tonumber(new.failingSince) or math.huge) then new.failingSince = old.failingSince end
  if count(old.failures) > count(new.failures) then new.failures = old.failures end
  return cjson.encode(new)
end

if earlierDue then
  local new, old = read(entry), read(earlier)
  -- Of two that cannot be read the newer one stays, as it is.
  if new and old then entry = join(new, old) end
  if KEYS[4] then due = math.min(due, earlierDue) end
  redis.call('ZREM', KEYS[2], earlier)
end

redis.call('ZADD', KEYS[2], string.format('%.0f', due), entry)
redis.call('HSET', KEYS[3], did, entry)
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return due
