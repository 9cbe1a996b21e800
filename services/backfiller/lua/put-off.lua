#!lua flags=allow-oom
-- Moves an entry from its stream to the schedule. An account has one entry there: KEYS stream, schedule, its entries by DID[, host]
-- ARGV group, id, DID, the entry as it shall come back, least delay in ms
--      [, ms between two turns, how many entries the schedule may hold, the longest that a host may be closed in ms, for how long in ms a host is remembered at least].
-- Without a host, the entry has failed and is tried again after the delay. With a host, it waits for the host's next free turn.
-- Returns the time (unix ms) at which it is due, or 0 when the schedule is full: then nothing has happened.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local did, entry, due = ARGV[3], ARGV[4], now + ARGV[5]

-- The entry of the account that waits already. An older version did not maintain the entries by DID: one that they name may
-- be gone from the schedule.
local waiting = redis.call('ZCARD', KEYS[2])
local earlier = redis.call('HGET', KEYS[3], did)
local earlierDue = earlier and tonumber(redis.call('ZSCORE', KEYS[2], earlier) or nil)

if KEYS[4] then
  if waiting >= tonumber(ARGV[7]) and not earlierDue then return 0 end
  local h = redis.call('HMGET', KEYS[4], 'turn', 'parkedUntil')
  -- As in acquire.lua: a time that is further ahead than `longest` is ignored. For turns, `longest` is the limit plus one
  -- turn for each entry that waits: no turn is later than that.
  local function believed(untilMs, longest)
    untilMs = tonumber(untilMs or 0)
    return untilMs <= now + longest and untilMs or 0
  end
  due = math.max(due, believed(h[1], ARGV[8] + (waiting + 1) * ARGV[6]), believed(h[2], ARGV[8]))
  redis.call('HSET', KEYS[4], 'turn', string.format('%.0f', due + ARGV[6]))
  local kept = due - now + ARGV[9]
  if redis.call('PTTL', KEYS[4]) < kept then redis.call('PEXPIRE', KEYS[4], string.format('%.0f', kept)) end
end

-- Compares by bytes. Lua's own `>` compares by the server's locale.
local function later(a, b)
  for i = 1, math.min(#a, #b) do
    if string.byte(a, i) ~= string.byte(b, i) then return string.byte(a, i) > string.byte(b, i) end
  end
  return #a > #b
end

-- The entry as a table, or nil. Other programs write entries too, and cjson does not read all JSON: it refuses half of a
-- surrogate pair.
local function read(json)
  local isJson, event = pcall(cjson.decode, json)
  return isJson and type(event) == 'table' and event or nil
end
local function text(value) return type(value) == 'string' and value or nil end
local function count(value) return type(value) == 'number' and value < 1e9 and value or 0 end

-- How many tries of an entry have failed, by class.
local function failuresOf(event)
  local counts = {}
  for class, failed in pairs(type(event.earlier) == 'table' and event.earlier or {}) do
    if text(class) and count(failed) > 0 then counts[class] = failed end
  end
  if text(event.failure) then counts[event.failure] = count(event.attempts) end
  return counts
end

-- Merges the two entries of an account: the newer one, with what the older one adds.
local function join(new, old)
  local rev = text(old.rev) or ''
  if later(rev, text(new.rev) or '') then new.rev = rev end
  -- The reason `listed` allows an export without removals, and every other reason asks for removals. So the other reason wins.
  if (text(new.reason) or 'listed') == 'listed' then new.reason = text(old.reason) end
  -- A new request begins with no failures. It takes over the failures of the older entry, of each class the larger count:
  -- otherwise the waits for a repository that fails for days, and is requested again and again, would never become long.
  local failure = text(new.failure) or text(old.failure)
  if failure then
    local counts, before = failuresOf(new), failuresOf(old)
    if (before[failure] or 0) > (counts[failure] or 0) and not KEYS[4] then due = math.max(due, earlierDue) end
    for class, failed in pairs(before) do counts[class] = math.max(counts[class] or 0, failed) end
    new.failure, new.attempts, counts[failure] = failure, counts[failure] or 0, nil
    new.earlier = next(counts) and counts or nil
  end
  local since = tonumber(old.failingSince)
  if since and since < (tonumber(new.failingSince) or math.huge) then new.failingSince = old.failingSince end
  if count(old.failures) > count(new.failures) then new.failures = old.failures end
  return cjson.encode(new)
end

if earlierDue then
  local new, old = read(entry), read(earlier)
  -- If one of the two cannot be read, the newer one stays as it is.
  if new and old then entry = join(new, old) end
  if KEYS[4] then due = math.min(due, earlierDue) end
  redis.call('ZREM', KEYS[2], earlier)
end

redis.call('ZADD', KEYS[2], string.format('%.0f', due), entry)
redis.call('HSET', KEYS[3], did, entry)
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return due
