-- refuse: write that a job was refused at its way in, as a record that has ended, where its id is free.
--
-- KEYS[1]  hash     {job:<id>}
-- KEYS[2]  channel  {job:<id>}:done
-- ARGV[1]  text     what was refused; the same once more is answered as the first time
-- ARGV[2]  text     tenant
-- ARGV[3]  json     what is known of the job
-- ARGV[4]  text     task type, or empty
-- ARGV[5]  time     created_at and finished_at
-- ARGV[6]  json     result
-- ARGV[7]  ms       how long the record is kept; 0 is without end
-- ARGV[8]  text     batch and number of a member, or empty
-- RETURNS  {refused}; {taken}: there is another record, which is left as it stands
-- CLOCK    none; the expiry is relative
-- WRITES   only where there is no record, or one of the same refusal

local record, done = KEYS[1], KEYS[2]
local what, tenant, job, task_type = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local at, result, keep_ms, member = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local status, refused = unpack(redis.call('HMGET', record, 'status', 'refused'))
if status and refused ~= what then return {'taken'} end
if not status then
  redis.call('HSET', record, 'status', 'failed', 'refused', what, 'fingerprint', 'refused', 'tenant', tenant,
    'job', job, 'task_type', task_type, 'priority', 'default', 'run', '1', 'created_at', at, 'finished_at', at,
    'result', result)
  if member ~= '' then redis.call('HSET', record, 'member', member) end
  if keep_ms ~= '0' then redis.call('PEXPIRE', record, keep_ms) end
end
redis.call('PUBLISH', done, 'failed')
return {'refused'}
