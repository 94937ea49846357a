-- accept: take entries out of the inbox whose jobs are accepted.
--
-- KEYS[1]  stream  inbox
-- ARGV[1]  text    the group
-- ARGV[2]  text    an entry's id; further ones follow
-- RETURNS  the number of those that were still there
-- CLOCK    none
-- WRITES   acknowledges and deletes each entry that is pending; others were taken out before

local inbox = KEYS[1]
local group, entries = ARGV[1], {unpack(ARGV, 2)}

redis.call('XACK', inbox, group, unpack(entries))
return redis.call('XDEL', inbox, unpack(entries))
