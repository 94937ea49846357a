-- finish: the files of a batch are written.
--
-- KEYS[1]  hash     {batch:<id>}
-- KEYS[2]  string   {batch:<id>}:members
-- KEYS[3]  channel  {batch:<id>}:done
-- ARGV[1]  text     id of the output file, or empty
-- ARGV[2]  text     id of the error file, or empty
-- ARGV[3]  ms       how long the batch is kept
-- RETURNS  {ok, the end, 1 when it has ended with it}; {open, status}: members have not ended; {ended, failed}; {not_found}
-- CLOCK    the server's TIME, for the time of the end
-- WRITES   only when all members have ended and the batch has not

local batch, members, done = KEYS[1], KEYS[2], KEYS[3]
local output, errors, keep = ARGV[1], ARGV[2], ARGV[3]

local known = redis.call('HMGET', batch, 'status', 'total', 'succeeded', 'failed', 'cancelled', 'expired')
local status = known[1]
if not status then return {'not_found'} end
if status == 'completed' or status == 'expired' or status == 'cancelled' then return {'ok', status, '0'} end
if status == 'failed' then return {'ended', status} end
local sum = 0
for i = 3, 6 do sum = sum + (known[i] or '0') end
if sum < tonumber(known[2] or '0') or (status ~= 'finalizing' and status ~= 'cancelling') then return {'open', status} end

if status == 'cancelling' then
  status = 'cancelled'
elseif tonumber(known[6] or '0') > 0 then
  status = 'expired'
else
  status = 'completed'
end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', batch, 'status', status, status .. '_at', now, 'output_file_id', output, 'error_file_id', errors)
redis.call('PEXPIRE', batch, keep)
redis.call('PEXPIRE', members, keep)
redis.call('PUBLISH', done, status)
return {'ok', status, '1'}
