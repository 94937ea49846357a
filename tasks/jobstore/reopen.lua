-- reopen: begin the next run of a job that ended without success.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run of the record that was read
-- ARGV[2]  json  previous: the results of all runs so far
-- ARGV[3]  json  the job, with its deadline
-- RETURNS  {ok, run}; {succeeded}; {open}; {changed}: read it again; {not_found}
-- CLOCK    none
-- WRITES   only when the run that was read has ended

local record = KEYS[1]
local run, previous, job = ARGV[1], ARGV[2], ARGV[3]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local status, current = unpack(redis.call('HMGET', record, 'status', 'run'))
if not status then return {'not_found'} end
if status == 'succeeded' then return {'succeeded'} end
if run ~= current then return {'changed'} end
if not ended[status] then return {'open'} end

local opened = string.format('%d', run + 1)
redis.call('HSET', record, 'status', 'queued', 'run', opened, 'previous', previous, 'job', job)
redis.call('HDEL', record, 'result', 'response', 'finished_at', 'started_at', 'run_at', 'cancel', 'waiting',
  'last_error', 'failures', 'deaths', 'deliveries', 'delivery', 'worker')
redis.call('PERSIST', record)
return {'ok', opened}
