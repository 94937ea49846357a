-- end: replace the intent of a call by its end, whatever has become of the job.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   seq
-- ARGV[2]  json  the attempt, ended
-- RETURNS  {ok}; {not_found}; {no_attempt}
-- CLOCK    none
-- WRITES   only where the attempt was begun

local record = KEYS[1]
local seq, attempt = ARGV[1], ARGV[2]

if redis.call('HEXISTS', record, 'status') == 0 then return {'not_found'} end
if redis.call('HEXISTS', record, 'a:' .. seq) == 0 then return {'no_attempt'} end
redis.call('HSET', record, 'a:' .. seq, attempt)
return {'ok'}
