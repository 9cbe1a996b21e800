-- Takes note of the result of a request to a host: KEYS host, its slots
-- ARGV permit to give back ('' for none), 'ok' | 'limited' | 'failed' | 'nothing', ms for which the host asks to be left alone (0: it does not ask),
--      requests that it says are left (-1: it does not say), ms until it counts anew,
--      how many failures in a row park it, ms of the first such park, the longest in ms that it may be closed for whatever reason,
--      for how long in ms it is remembered at least, the repository that was asked for ('' when unknown),
--      after how many ms of 429 the host counts as limited, for how many of these ms another answer makes up.
-- Returns for how many ms from now the host is parked; 0 when it is not.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local longest = tonumber(ARGV[8])
-- As in acquire.lua: a time that is too far ahead is ignored.
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
  -- `limitedSince`: since when the host has given hardly any answer but 429. Each other answer makes up for some hours, so
  -- that one good answer every few days does not hide the 429s in between.
  local since = tonumber(redis.call('HGET', KEYS[1], 'limitedSince') or nil)
  if ARGV[2] == 'limited' then
    if not since then redis.call('HSET', KEYS[1], 'limitedSince', string.format('%.0f', now)) end
  elseif since then
    since = math.max(since, now - ARGV[11]) + ARGV[12]
    if since >= now then redis.call('HDEL', KEYS[1], 'limitedSince')
    else redis.call('HSET', KEYS[1], 'limitedSince', string.format('%.0f', since)) end
  end
elseif ARGV[2] == 'failed' and parkedUntil <= now then
  -- Requests that were under way when the host was parked tell nothing new, so they do not get here.
  local h = redis.call('HMGET', KEYS[1], 'failures', 'failing')
  -- `failing`: the repositories that have failed since the host last worked. It counts only beside a number of failures: an
  -- older version, which counted every failure, removes the number and leaves the list.
  local failures, failing, repo = tonumber(h[1] or 0), h[1] and h[2] or '', ARGV[10]
  local function parkMs() return ARGV[7] * 2 ^ math.min(failures - ARGV[6], 30) end
  -- A repository that has failed before tells nothing new either. It may be broken by itself, and if each of its tries
  -- counted, each would double the time for which the other repositories of the host wait.
  local isKnown = string.find(' ' .. failing .. ' ', ' ' .. repo .. ' ', 1, true)
  -- Nor does any repository once the host is parked for the longest time. So at most 13 repositories are remembered, of 32
  -- characters each (a did:web has up to 261).
  if repo == '' or not (isKnown or parkMs() >= longest) then
    failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
    if repo ~= '' then redis.call('HSET', KEYS[1], 'failing', failing == '' and repo or failing .. ' ' .. repo) end
  end
  if failures >= tonumber(ARGV[6]) then park(parkMs()) end
end
if tonumber(ARGV[3]) > 0 then park(tonumber(ARGV[3])) end

if tonumber(ARGV[4]) >= 0 then
  -- The host may not have counted the requests that are under way yet, so they are taken off.
  local others = math.max(0, redis.call('ZCARD', KEYS[2]) - 1)
  local left, leftUntil = ARGV[4] - others, now + math.min(tonumber(ARGV[5]), longest)
  local h = redis.call('HMGET', KEYS[1], 'left', 'leftUntil')
  -- Answers may overtake each other. So within one window of the host the lowest number counts.
  local stated = believed(h[2])
  if stated > now and leftUntil < stated + 2000 then
    left = math.min(left, tonumber(h[1]))
    leftUntil = stated
  end
  redis.call('HSET', KEYS[1], 'left', string.format('%.0f', left), 'leftUntil', string.format('%.0f', leftUntil))
end

-- There may have been no permit before this, or the host was forgotten since: then the key has no time to live yet.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[9]) then redis.call('PEXPIRE', KEYS[1], ARGV[9]) end
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[2], ARGV[1]) end
return math.max(0, parkedUntil - now)
