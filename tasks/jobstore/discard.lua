-- discard: delete the record of a job that has ended.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run that is meant; 0 is any
-- RETURNS  {ok}; {open}; {stale_run}: it has been reopened since; {not_found}
-- CLOCK    none
-- WRITES   only when that run has ended

local record = KEYS[1]
local run = ARGV[1]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local status, current = unpack(redis.call('HMGET', record, 'status', 'run'))
if not status then return {'not_found'} end
if run ~= '0' and run ~= current then return {'stale_run'} end
if not ended[status] then return {'open'} end
redis.call('DEL', record)
return {'ok'}
