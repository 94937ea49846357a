-- handed: what the end of a job's run sets off has been done.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run
-- RETURNS  {ok}; {stale_run}; {not_found}
-- CLOCK    none
-- WRITES   only while the run is the current one

local record = KEYS[1]
local run = ARGV[1]

local current = redis.call('HGET', record, 'run')
if not current then return {'not_found'} end
if current ~= run then return {'stale_run'} end
redis.call('HSET', record, 'handed', run)
return {'ok'}
