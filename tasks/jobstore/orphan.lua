-- orphan: end an attempt whose worker is gone, unless its end has arrived.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   seq
-- ARGV[2]  json  the intent as it was read
-- ARGV[3]  json  the attempt, ended
-- RETURNS  {ok, the attempt as it now stands}; {not_found}; {no_attempt}
-- CLOCK    none
-- WRITES   only while the intent is what was read

local record = KEYS[1]
local seq, intent, attempt = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HEXISTS', record, 'status') == 0 then return {'not_found'} end
local stands = redis.call('HGET', record, 'a:' .. seq)
if not stands then return {'no_attempt'} end
if stands ~= intent then return {'ok', stands} end
redis.call('HSET', record, 'a:' .. seq, attempt)
return {'ok', attempt}
