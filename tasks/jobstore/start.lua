-- start: deliveries take their jobs.
--
-- EACH     job takes one key and four arguments, as written here for the first
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run the task was made for; 0 is any
-- ARGV[2]  text  delivery
-- ARGV[3]  text  worker
-- ARGV[4]  time  now
-- RETURNS  for each job {ok, run}; {not_found}; {stale_run}; or an error of its own
-- CLOCK    none
-- WRITES   unless the job has ended or this delivery holds it already. A delivery that still held the job has lost
--          it, and counts as dead

local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local function start(record, run, delivery, worker, now)
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
end

local records, given, replies = KEYS, ARGV, {}
for i, record in ipairs(records) do
  local fine, reply = pcall(start, record, unpack(given, 4 * i - 3, 4 * i))
  replies[i] = (fine or type(reply) == 'table') and reply or {err = reply}
end
return replies
