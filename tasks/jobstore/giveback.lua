-- giveback: a delivery leaves the job to a later one.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run
-- ARGV[2]  text  delivery
-- ARGV[3]  text  status: queued or retrying
-- ARGV[4]  json  waiting, or empty
-- ARGV[5]  json  last_error, or empty: the one that stands is kept
-- ARGV[6]  0|1   whether a retry is spent
-- ARGV[7]  int   seq of the attempt that ended with it; 0 is none
-- ARGV[8]  json  that attempt, ended
-- RETURNS  {ok, failures}; {not_found}; {stale_run}; {ended}; {superseded}; {cancelled}
-- CLOCK    none
-- WRITES   the attempt's end always, the rest only while the delivery holds the job and nobody has asked for its
--          end. Once more after it was given back is answered as the first time

-- remember adds a wait to the last ones, a line each.
local function remember(record, waiting)
  local lines = {}
  for line in (redis.call('HGET', record, 'waits') or ''):gmatch('[^\n]+') do lines[#lines + 1] = line end
  lines[#lines + 1] = waiting
  redis.call('HSET', record, 'waiting', waiting, 'waits', table.concat(lines, '\n', math.max(1, #lines - 19)))
end

local record = KEYS[1]
local run, delivery, status, waiting, last_error = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local spend, seq, attempt = ARGV[6], ARGV[7], ARGV[8]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local known = redis.call('HMGET', record, 'status', 'run', 'delivery', 'cancel', 'failures')
local stands, current, holder, cancel, failures = known[1], known[2], known[3], known[4], known[5] or '0'
if not stands then return {'not_found'} end
if redis.call('HEXISTS', record, 'a:' .. seq) == 1 then
  redis.call('HSET', record, 'a:' .. seq, attempt)
end
if run ~= current then return {'stale_run'} end
if ended[stands] then return {'ended'} end
if holder ~= delivery then return {'superseded'} end
if stands ~= 'running' then return {'ok', failures} end
if cancel then return {'cancelled'} end

if spend == '1' then
  failures = string.format('%d', redis.call('HINCRBY', record, 'failures', 1))
end
redis.call('HSET', record, 'status', status)
if last_error ~= '' then redis.call('HSET', record, 'last_error', last_error) end
if waiting ~= '' then
  remember(record, waiting)
else
  redis.call('HDEL', record, 'waiting')
end
return {'ok', failures}
