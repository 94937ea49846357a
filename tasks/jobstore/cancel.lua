-- cancel: end a job that waits, or ask the worker that holds it to end it.
--
-- KEYS[1]  hash     {job:<id>}
-- KEYS[2]  channel  {job:<id>}:done
-- ARGV[1]  int      run of the record that the result was made from
-- ARGV[2]  int      seq of that record
-- ARGV[3]  json     result, in case the job waits
-- ARGV[4]  time     finished_at
-- ARGV[5]  ms       how long the record is kept; 0 is without end
-- ARGV[6]  text     spare: a job that runs is left alone; else empty
-- RETURNS  {committed, cancelled}; {asked, running}; {refused, the end that stands, or running where it is spared}; {changed}: read it again;
--          {not_found}
-- CLOCK    none; the expiry is relative
-- WRITES   unless the job has ended or its record has changed

local record, done = KEYS[1], KEYS[2]
local run, seq, result, finished_at, keep_ms, spare = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local known = redis.call('HMGET', record, 'status', 'run', 'seq')
local status, current, latest = known[1], known[2], known[3] or '0'
if not status then return {'not_found'} end
if run ~= current then return {'changed'} end
if ended[status] then return {'refused', status} end
if status == 'running' then
  if spare == 'spare' then return {'refused', status} end
  redis.call('HSET', record, 'cancel', '1')
  return {'asked', status}
end
if seq ~= latest then return {'changed'} end

redis.call('HSET', record, 'status', 'cancelled', 'result', result, 'finished_at', finished_at)
redis.call('HDEL', record, 'waiting', 'cancel', 'last_error')
if keep_ms ~= '0' then redis.call('PEXPIRE', record, keep_ms) end
redis.call('PUBLISH', done, 'cancelled')
return {'committed', 'cancelled'}
