-- Counts a did:web that a host may have made up, and whose status is to be noted, among those of its owner's part.
-- KEYS the counts by part, with the salt
-- ARGV owner, a random text: the salt, if there is none yet.
-- The first three hex digits of a hash decide the part: there are 4,096. The hash has a salt that only this Redis knows.
-- Otherwise anybody could find a domain of the same part as somebody else's, and use up the count of both.
-- Returns how many of the part were counted, this one included.
local salt = redis.call('HGET', KEYS[1], 'salt')
if not salt then
  -- An older version has counted by parts that anybody could compute.
  redis.call('DEL', KEYS[1])
  salt = ARGV[2]
  redis.call('HSET', KEYS[1], 'salt', salt)
end
return redis.call('HINCRBY', KEYS[1], string.sub(redis.sha1hex(salt .. ARGV[1]), 1, 3), 1)
