-- reject: move an entry that is refused from the inbox into the stream of refusals.
--
-- KEYS[1]  stream  inbox
-- KEYS[2]  stream  inbox:rejected
-- ARGV[1]  text    the group
-- ARGV[2]  text    the entry's id
-- ARGV[3]  int     about how many refusals are kept
-- ARGV[4]  text    the name of a field of the refusal, ARGV[5] its value; further pairs follow
-- RETURNS  1, or 0 where the entry was taken out before
-- CLOCK    none
-- WRITES   only when the entry was pending

local inbox, rejected = KEYS[1], KEYS[2]
local group, entry, keep, refusal = ARGV[1], ARGV[2], ARGV[3], {unpack(ARGV, 4)}
local second = ARGV[5] -- a pair at least
if not second then return redis.error_reply('reject: the refusal has no fields') end

if redis.call('XPENDING', inbox, group, entry, entry, 1)[1] == nil then return 0 end
-- First, so that where it cannot be written (no memory) the entry stays.
redis.call('XADD', rejected, 'MAXLEN', '~', keep, '*', unpack(refusal))
redis.call('XACK', inbox, group, entry)
redis.call('XDEL', inbox, entry)
return 1
