-- reap: end a job for which nobody acts, as long as it stands exactly as it was read.
--
-- KEYS[1]  hash     {job:<id>}
-- KEYS[2]  channel  {job:<id>}:done
-- ARGV[1]  int      run that was read
-- ARGV[2]  text     status that was read
-- ARGV[3]  text     delivery that was read, or empty
-- ARGV[4]  int      seq that was read
-- ARGV[5]  text     status: failed, cancelled or expired
-- ARGV[6]  json     result, without response and attempts
-- ARGV[7]  time     finished_at
-- ARGV[8]  ms       how long the record is kept; 0 is without end
-- RETURNS  {committed, status}; {refused, the end that stands}; {changed}: somebody acts; {not_found}
-- CLOCK    none; the expiry is relative
-- WRITES   only while the record is what was read

local record, done = KEYS[1], KEYS[2]
local run, status, delivery, seq = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local finish, result, finished_at, keep_ms = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local known = redis.call('HMGET', record, 'status', 'run', 'delivery', 'seq')
if not known[1] then return {'not_found'} end
if ended[known[1]] then return {'refused', known[1]} end
if known[1] ~= status or known[2] ~= run or (known[3] or '') ~= delivery or (known[4] or '0') ~= seq then
  return {'changed'}
end

redis.call('HSET', record, 'status', finish, 'result', result, 'finished_at', finished_at)
redis.call('HDEL', record, 'waiting', 'cancel', 'last_error')
if keep_ms ~= '0' then redis.call('PEXPIRE', record, keep_ms) end
redis.call('PUBLISH', done, finish)
return {'committed', finish}
