-- create: write the record of a new job, or find that it is there.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  text  fingerprint
-- ARGV[2]  text  tenant
-- ARGV[3]  json  the job
-- ARGV[4]  text  task type, or empty
-- ARGV[5]  text  priority
-- ARGV[6]  time  created_at
-- ARGV[7]  time  run_at, or empty
-- ARGV[8]  json  waiting, or empty
-- ARGV[9]  int   the prompt's tokens, 0 when they were not counted
-- ARGV[10] json  metadata, or empty
-- ARGV[11] text  batch and number of a member, or empty
-- ARGV[12] text  other fingerprints of the same asking, as older keys make them, with spaces between; or empty
-- ARGV[13] text  shard of the queue of its priority, or empty
-- ARGV[14] text  traceparent, or empty
-- ARGV[15] text  tracestate, or empty
-- RETURNS  {created | exists, status, run, priority, run_at, replaced, shard}, of the record as it stands; {conflict}.
--          replaced is not empty where the record of a refused job made room
-- CLOCK    none
-- WRITES   only when there is no record, or one of a refused job

local record = KEYS[1]
local fingerprint, tenant, job, task_type, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local created_at, run_at, waiting, prompt_tokens, metadata = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local member, others, shard = ARGV[11], ARGV[12], ARGV[13]
local traceparent, tracestate = ARGV[14], ARGV[15]

local known = redis.call('HMGET', record, 'status', 'run', 'priority', 'run_at', 'fingerprint', 'tenant', 'refused', 'shard')
local replaced = ''
if known[7] then
  redis.call('DEL', record)
  replaced = 'refused'
elseif known[1] then
  local same = known[5] == fingerprint or string.find(' ' .. others .. ' ', ' ' .. known[5] .. ' ', 1, true)
  if not same or known[6] ~= tenant then
    return {'conflict'}
  end
  return {'exists', known[1], known[2], known[3], known[4] or '', '', known[8] or ''}
end

redis.call('HSET', record,
  'status', 'queued', 'job', job, 'fingerprint', fingerprint, 'tenant', tenant, 'priority', priority,
  'run', '1', 'created_at', created_at, 'prompt_tokens', prompt_tokens)
if task_type ~= '' then redis.call('HSET', record, 'task_type', task_type) end
if run_at ~= '' then redis.call('HSET', record, 'run_at', run_at) end
if metadata ~= '' then redis.call('HSET', record, 'metadata', metadata) end
if shard ~= '' then redis.call('HSET', record, 'shard', shard) end
if member ~= '' then redis.call('HSET', record, 'member', member) end
if traceparent ~= '' then redis.call('HSET', record, 'traceparent', traceparent) end
if tracestate ~= '' then redis.call('HSET', record, 'tracestate', tracestate) end
if waiting ~= '' then redis.call('HSET', record, 'waiting', waiting, 'waits', waiting) end
return {'created', 'queued', '1', priority, run_at, replaced, shard}
