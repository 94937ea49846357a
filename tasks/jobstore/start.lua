-- start: a delivery takes the job.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run the task was made for; 0 is any
-- ARGV[2]  text  delivery
-- ARGV[3]  text  worker
-- ARGV[4]  time  now
-- RETURNS  {ok, run}; {not_found}; {stale_run}
-- CLOCK    none
-- WRITES   unless the job has ended or this delivery holds it already. A delivery that still held the job has lost
--          it, and counts as dead

local record = KEYS[1]
local run, delivery, worker, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local known = redis.call('HMGET', record, 'status', 'run', 'delivery', 'deliveries', 'started_at', 'waiting')
local status, current, holder = known[1], known[2], known[3]
local deliveries, started_at, waiting = known[4] or '0', known[5] or now, known[6]
if not status then return {'not_found'} end
if run ~= '0' and run ~= current then return {'stale_run'} end
if ended[status] or (status == 'running' and holder == delivery) then return {'ok', current} end

if status == 'running' then redis.call('HINCRBY', record, 'deaths', 1) end
redis.call('HSET', record, 'status', 'running', 'delivery', delivery, 'worker', worker, 'started_at', started_at,
  'deliveries', string.format('%d', deliveries + 1))
if waiting then redis.call('HDEL', record, 'waiting') end
return {'ok', current}
