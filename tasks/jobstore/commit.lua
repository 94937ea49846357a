-- commit: end the job with its result, once per run.
--
-- KEYS[1]  hash     {job:<id>}
-- KEYS[2]  channel  {job:<id>}:done
-- ARGV[1]  int      run
-- ARGV[2]  text     delivery, or empty
-- ARGV[3]  text     status: succeeded, failed, cancelled or expired
-- ARGV[4]  json     result, without response and attempts
-- ARGV[5]  bytes    response, or empty
-- ARGV[6]  time     finished_at
-- ARGV[7]  ms       how long the record is kept; 0 is without end
-- ARGV[8]  int      seq of the attempt that ended with it; 0 is none
-- ARGV[9]  json     that attempt, ended
-- RETURNS  {committed, status}; {refused, the status that stands}; {stale_run, the status that stands}; {not_found}
-- CLOCK    none; the expiry is relative
-- WRITES   the attempt's end always, the rest only when it commits. The same delivery committing the same status
--          once more is answered as the first time

local record, done = KEYS[1], KEYS[2]
local run, delivery, status, result, response = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local finished_at, keep_ms, seq, attempt = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local stands, current, holder = unpack(redis.call('HMGET', record, 'status', 'run', 'delivery'))
if not stands then return {'not_found'} end
if redis.call('HEXISTS', record, 'a:' .. seq) == 1 then
  redis.call('HSET', record, 'a:' .. seq, attempt)
end
if run ~= current then return {'stale_run', stands} end
if ended[stands] then
  if stands == status and delivery ~= '' and delivery == holder then return {'committed', stands} end
  return {'refused', stands}
end

redis.call('HSET', record, 'status', status, 'result', result, 'finished_at', finished_at)
if response ~= '' then redis.call('HSET', record, 'response', response) end
if delivery ~= '' then redis.call('HSET', record, 'delivery', delivery) end
redis.call('HDEL', record, 'waiting', 'cancel', 'last_error')
if keep_ms ~= '0' then redis.call('PEXPIRE', record, keep_ms) end
redis.call('PUBLISH', done, status)
return {'committed', status}
