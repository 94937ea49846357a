-- leave: take a consumer out of the group that has nothing pending. What a consumer has pending would be lost with it.
--
-- KEYS[1]  stream  inbox
-- ARGV[1]  text    the group
-- ARGV[2]  text    the consumer
-- RETURNS  1, or 0 where it has entries pending
-- CLOCK    none
-- WRITES   only when nothing is pending

local inbox = KEYS[1]
local group, consumer = ARGV[1], ARGV[2]

if redis.call('XPENDING', inbox, group, '-', '+', 1, consumer)[1] ~= nil then return 0 end
redis.call('XGROUP', 'DELCONSUMER', inbox, group, consumer)
return 1
