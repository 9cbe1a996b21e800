-- Asks whether a host may be sent one more request, and if so counts that request: KEYS host, its slots
-- ARGV permit ('' takes no slot), concurrency, requests a second, burst, lease of the slot in ms, the longest that a host may be closed in ms,
--      for how long in ms a host of repositories is remembered at least, the same for any other host.
-- Returns {1} when it may be sent, or {0, why not, ms until it is worth asking again}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local h = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'parkedUntil', 'left', 'leftUntil', 'failures', 'reposDone', 'reposFailed')
local perSecond, burst = tonumber(ARGV[3]), tonumber(ARGV[4])
-- A stored time, or 0 when it is further ahead than a host may be closed. Such a time was stored by a version that had no
-- limit, or Redis' clock has gone back. It is ignored and not lowered to the limit: each later call would lower it to the
-- limit again, and the host would stay closed.
local function believed(untilMs)
  untilMs = tonumber(untilMs or 0)
  return untilMs <= now + ARGV[6] and untilMs or 0
end

local parkedUntil = believed(h[3])
if parkedUntil > now then return {0, 'parked', parkedUntil - now} end

if ARGV[1] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  -- A host that fails gets one request at a time.
  local concurrency = h[6] and 1 or tonumber(ARGV[2])
  if redis.call('ZCARD', KEYS[2]) >= concurrency then return {0, 'busy', 250} end
end

local leftUntil = believed(h[5])
if leftUntil > now and tonumber(h[4]) <= 0 then return {0, 'stated', leftUntil - now} end

local at = tonumber(h[2] or now)
if at > now then
  -- The clock has gone back. The bucket fills from now on; otherwise it would not fill before the clock reaches the
  -- stored time again.
  at = now
  redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now))
end
local tokens = math.min(burst, tonumber(h[1] or burst) + (now - at) * perSecond / 1000)
if tokens < 1 then return {0, 'rate', math.ceil((1 - tokens) / perSecond * 1000)} end

redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens - 1), 'at', string.format('%.0f', now))
-- Not HINCRBY, which fails on more than 64 bits: a host may state any number.
if leftUntil > now then redis.call('HSET', KEYS[1], 'left', string.format('%.0f', h[4] - 1)) end
-- Redirects of strangers can name any number of hosts, so a host of which no repository was counted is forgotten sooner.
-- An entry that waits for a host keeps it longer (put-off.lua).
local kept = (h[7] or h[8]) and ARGV[7] or ARGV[8]
if redis.call('PTTL', KEYS[1]) < tonumber(kept) then redis.call('PEXPIRE', KEYS[1], kept) end
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[5]), ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
return {1}
