-- advance: the ticks of a schedule up to one have been dealt with.
--
-- KEYS[1]  hash  {schedules}:entries  by "<tenant>/<name>"
-- KEYS[2]  hash  {schedules}:states   the same
-- ARGV[1]  text  the schedule's field
-- ARGV[2]  json  the state that was read, or empty
-- ARGV[3]  json  the state that follows
-- RETURNS  {ok}; {changed}: somebody else has written the state; {not_found}
-- CLOCK    none
-- WRITES   only while the state is what was read

local entries, states = KEYS[1], KEYS[2]
local field, read, state = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HEXISTS', entries, field) == 0 then return {'not_found'} end
if (redis.call('HGET', states, field) or '') ~= read then return {'changed'} end
redis.call('HSET', states, field, state)
return {'ok'}
