-- resign: give the leader's lease up. The term stays.
--
-- KEYS[1]  hash  leader    holder, until (ms), term
-- ARGV[1]  text  token of the holder
-- RETURNS  1, or 0 when somebody else holds the lease, or nobody
-- CLOCK    none
-- WRITES   only for the holder

local leader = KEYS[1]
local token = ARGV[1]

if redis.call('HGET', leader, 'holder') ~= token then return 0 end
redis.call('HDEL', leader, 'holder', 'until')
return 1
