#!lua flags=allow-oom
-- Asks whether a repository that is given up may have a dead letter: whether its owner has room for one.
-- KEYS the accounts of the owner that have letters, dead-letter stream, its latest letters by account, what is set aside
-- ARGV account, how many letters the stream may hold, the part of the free room that one owner may have (8: an eighth), for how long in ms both are remembered,
--      under which name it is counted when it is set aside, how many names are counted, the name for all others.
-- Returns 0 when it may have a letter, or how many repositories of that name are set aside now, this one included.
-- Allowed when Redis is full, as bury.lua.
local letters = redis.call('XLEN', KEYS[2])
if letters == 0 then redis.call('DEL', KEYS[1]) end

-- Nobody takes an account out when its letter is put back or dropped. So when there seems to be no room, some accounts are
-- looked at, at random.
local function hasLetter(did)
  local id = redis.call('HGET', KEYS[3], did)
  return id and #redis.call('XRANGE', KEYS[2], id, id) > 0
end
local function isWithoutLetter()
  local isGone = false
  for _, did in ipairs(redis.call('SRANDMEMBER', KEYS[1], 16)) do
    if not hasLetter(did) then
      redis.call('SREM', KEYS[1], did)
      isGone = true
    end
  end
  return isGone
end

local own = redis.call('SCARD', KEYS[1])
local room = math.max(1, (ARGV[2] - math.max(0, letters - own)) / ARGV[3])
-- The letter of an account that has one is replaced.
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 or own < room or isWithoutLetter() then
  redis.call('SADD', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return 0
end
local name = ARGV[5]
if redis.call('HEXISTS', KEYS[4], name) == 0 and redis.call('HLEN', KEYS[4]) >= tonumber(ARGV[6]) then name = ARGV[7] end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local count = redis.call('HINCRBY', KEYS[4], name, 1)
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return count
