-- start: a delivery takes the job, and reads all of it in the same round trip.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run the task was made for; 0 is any
-- ARGV[2]  text  delivery
-- ARGV[3]  text  worker
-- ARGV[4]  time  now
-- RETURNS  {ok, {field, value, ...}}; {not_found}; {stale_run}
-- CLOCK    none
-- WRITES   unless the job has ended or this delivery holds it already. A delivery that still held the job has lost
--          it, and counts as dead

local record = KEYS[1]
local run, delivery, worker, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local status, current, holder = unpack(redis.call('HMGET', record, 'status', 'run', 'delivery'))
if not status then return {'not_found'} end
if run ~= '0' and run ~= current then return {'stale_run'} end

if not ended[status] and not (status == 'running' and holder == delivery) then
  if status == 'running' then redis.call('HINCRBY', record, 'deaths', 1) end
  redis.call('HSET', record, 'status', 'running', 'delivery', delivery, 'worker', worker)
  redis.call('HSETNX', record, 'started_at', now)
  redis.call('HINCRBY', record, 'deliveries', 1)
  redis.call('HDEL', record, 'waiting')
end
return {'ok', redis.call('HGETALL', record)}
