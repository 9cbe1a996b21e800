#!lua
-- Appends entries, and moves the cursor and the state of each DID, in one atomic step.
--
-- KEYS: every key that the steps name, by index.
-- ARGV: steps, flat: name, key index, parameters.
--   expect k value          the key must hold value ('' = absent); otherwise the whole script changes nothing
--   set    k value
--   add    k field n v1…vn  XADD n entries of one field
--   count  k field n        HINCRBY
--   put    k field value    HSET
--   swap   k field from to  the field must hold from ('' = absent); otherwise the whole script changes nothing. Then HSET to ('' = HDEL)
--   mark   k field flags    sets these flags of a chain record                         } the layout of a chain record
--   complete k field value  an export was stored completely; value: its rev and data   } is in chain-state.ts
-- Returns one of:
--   {1, XLEN of KEYS[1], n}        done. n exports were too old to end the resync of their account
--   {0, key index, value found}    an expect failed
--   {2, n…}                        these swaps failed (the first swap is number 1)
--
-- All or nothing. Redis does not undo what a failed script has written. So the first pass reads every key in a way that
-- fails when the key holds another type, and nothing in the second pass can fail. A full Redis refuses the script as a
-- whole (`#!lua` without allow-oom).
local function read(i)
  local step, k = ARGV[i], tonumber(ARGV[i + 1])
  if step == 'add' then return step, k, i + 4 + tonumber(ARGV[i + 3]) end
  if step == 'expect' or step == 'set' then return step, k, i + 3 end
  if step == 'count' or step == 'put' or step == 'mark' or step == 'complete' then return step, k, i + 4 end
  if step == 'swap' then return step, k, i + 5 end
  error('unknown step ' .. tostring(step))
end

-- Whether the first 8 bytes of a, read as a big-endian number, are lower than those of b.
-- Hazard: `a < b` would not do, because Lua compares strings by the server's locale.
local function lower(a, b)
  local a1, a2 = struct.unpack('>I4I4', a)
  local b1, b2 = struct.unpack('>I4I4', b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end

local EXPORTED, INACTIVE, RESYNC = 1, 2, 4
local NO_HEAD = string.rep('\0', 24)

-- The chain record after an export that was stored completely, and whether that export was too old to end the resync.
local function completed(found, export)
  if not found then return export .. string.char(EXPORTED), false end
  local flags = string.byte(found, 25)
  local head = lower(export, found) and string.sub(found, 1, 24) or export
  if bit.band(flags, RESYNC) ~= 0 and lower(export, string.sub(found, 26, 33)) then
    return head .. string.char(bit.bor(flags, EXPORTED)) .. string.sub(found, 26), true
  end
  return head .. string.char(bit.bor(EXPORTED, bit.band(flags, INACTIVE))), false
end

local function marked(found, flags)
  if not found then return NO_HEAD .. string.char(flags) end
  return string.sub(found, 1, 24) .. string.char(bit.bor(string.byte(found, 25), flags)) .. string.sub(found, 26)
end

-- First pass: decide.
redis.call('XLEN', KEYS[1])
local swaps, conflicts = 0, {2}
local i = 1
while i <= #ARGV do
  local step, k, after = read(i)
  if step == 'expect' then
    local found = redis.call('GET', KEYS[k]) or ''
    if found ~= ARGV[i + 2] then return {0, k, found} end
  elseif step == 'swap' then
    swaps = swaps + 1
    if (redis.call('HGET', KEYS[k], ARGV[i + 2]) or '') ~= ARGV[i + 3] then conflicts[#conflicts + 1] = swaps end
  elseif step == 'count' or step == 'put' or step == 'mark' or step == 'complete' then
    redis.call('HLEN', KEYS[k])
  elseif step == 'add' then
    redis.call('XLEN', KEYS[k])
  end
  i = after
end
if #conflicts > 1 then return conflicts end

-- Second pass: act.
local tooOld = 0
i = 1
while i <= #ARGV do
  local step, k, after = read(i)
  if step == 'add' then
    for v = i + 4, after - 1 do redis.call('XADD', KEYS[k], '*', ARGV[i + 2], ARGV[v]) end
  elseif step == 'set' then
    redis.call('SET', KEYS[k], ARGV[i + 2])
  elseif step == 'put' then
    redis.call('HSET', KEYS[k], ARGV[i + 2], ARGV[i + 3])
  elseif step == 'swap' then
    if ARGV[i + 4] == '' then redis.call('HDEL', KEYS[k], ARGV[i + 2])
    else redis.call('HSET', KEYS[k], ARGV[i + 2], ARGV[i + 4]) end
  elseif step == 'count' then
    redis.call('HINCRBY', KEYS[k], ARGV[i + 2], ARGV[i + 3])
  elseif step == 'mark' then
    redis.call('HSET', KEYS[k], ARGV[i + 2], marked(redis.call('HGET', KEYS[k], ARGV[i + 2]), tonumber(ARGV[i + 3])))
  elseif step == 'complete' then
    local value, isTooOld = completed(redis.call('HGET', KEYS[k], ARGV[i + 2]), ARGV[i + 3])
    redis.call('HSET', KEYS[k], ARGV[i + 2], value)
    if isTooOld then tooOld = tooOld + 1 end
  end
  i = after
end
return {1, redis.call('XLEN', KEYS[1]), tooOld}
