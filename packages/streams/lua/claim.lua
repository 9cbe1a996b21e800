#!lua flags=allow-oom
-- Takes over pending entries that nobody has touched for at least idleMs: KEYS stream · ARGV group, consumer, idleMs, id…
-- Returns {the entries [id, [field, value, …]], ids of phantoms}. A phantom is pending, but deleted from the stream.
-- An entry that somebody has touched or acked meanwhile is in neither list.
-- XCLAIM removes phantoms from the pending list without reporting them. So XPENDING is asked first, in the same step, which
-- entries are pending: those that XCLAIM does not return are the phantoms.
local wanted, alive, phantoms = {}, {}, {}
for a = 4, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], ARGV[a], ARGV[a], 1) > 0 then wanted[#wanted + 1] = ARGV[a] end
end
if #wanted == 0 then return {{}, {}} end
local entries = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], unpack(wanted))
for _, entry in ipairs(entries) do alive[entry[1]] = true end
for _, id in ipairs(wanted) do
  if not alive[id] then phantoms[#phantoms + 1] = id end
end
return {entries, phantoms}
