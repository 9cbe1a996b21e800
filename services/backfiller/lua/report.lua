-- What came of a request to a host: KEYS host, its slots
-- ARGV permit to give back ('' none), 'ok' | 'limited' | 'failed' | '', ms to park it (0 none), requests it says are left (-1 unsaid), ms until it counts anew,
--      failures in a row that park it, first such park in ms, longest in ms that it may be closed for, whatever for, how long it is remembered at least in ms,
--      the repository that was asked for ('' unsaid).
-- Returns for how many ms the host is parked from now on, 0 when it is not.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local longest = tonumber(ARGV[8])
-- As acquire.lua believes it.
local function believed(untilMs)
  untilMs = tonumber(untilMs or 0)
  return untilMs <= now + longest and untilMs or 0
end
local parkedUntil = believed(redis.call('HGET', KEYS[1], 'parkedUntil'))
local function park(ms)
  parkedUntil = math.max(parkedUntil, now + math.min(ms, longest))
  redis.call('HSET', KEYS[1], 'parkedUntil', string.format('%.0f', parkedUntil))
end

if ARGV[2] == 'ok' or ARGV[2] == 'limited' then
  redis.call('HDEL', KEYS[1], 'failures', 'failing')
  -- Since when it gives no other answer.
  if ARGV[2] == 'ok' then redis.call('HDEL', KEYS[1], 'limitedSince')
  else redis.call('HSETNX', KEYS[1], 'limitedSince', string.format('%.0f', now)) end
elseif ARGV[2] == 'failed' and parkedUntil <= now then
  -- Those that were under way when it was parked tell nothing new.
  local h = redis.call('HMGET', KEYS[1], 'failures', 'failing')
  -- Which have failed since the host last worked. A version that counted every failure forgets the number alone.
  local failures, failing, repo = tonumber(h[1] or 0), h[1] and h[2] or '', ARGV[10]
  local function parkMs() return ARGV[7] * 2 ^ math.min(failures - ARGV[6], 30) end
  -- Nor does a repository that has failed before: it may be broken by itself, and with each try the others of the host would wait for twice as long.
  local isKnown = string.find(' ' .. failing .. ' ', ' ' .. repo .. ' ', 1, true)
  -- Nor any other at the longest park: so at most 13 are remembered, of 32 characters each (a did:web of 261).
  if repo == '' or not (isKnown or parkMs() >= longest) then
    failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
    if repo ~= '' then redis.call('HSET', KEYS[1], 'failing', failing == '' and repo or failing .. ' ' .. repo) end
  end
  if failures >= tonumber(ARGV[6]) then park(parkMs()) end
end
if tonumber(ARGV[3]) > 0 then park(tonumber(ARGV[3])) end

if tonumber(ARGV[4]) >= 0 then
  -- Requests that are under way may not be in the host's count yet.
  local others = math.max(0, redis.call('ZCARD', KEYS[2]) - 1)
  local left, leftUntil = ARGV[4] - others, now + math.min(tonumber(ARGV[5]), longest)
  local h = redis.call('HMGET', KEYS[1], 'left', 'leftUntil')
  -- Answers may overtake each other: within one window the least counts.
  local stated = believed(h[2])
  if stated > now and leftUntil < stated + 2000 then
    left = math.min(left, tonumber(h[1]))
    leftUntil = stated
  end
  redis.call('HSET', KEYS[1], 'left', string.format('%.0f', left), 'leftUntil', string.format('%.0f', leftUntil))
end

-- Without a permit before it, or forgotten since then.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[9]) then redis.call('PEXPIRE', KEYS[1], ARGV[9]) end
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[2], ARGV[1]) end
return math.max(0, parkedUntil - now)
