-- cancel: ask a batch to end. Its members are the caller's to cancel.
--
-- KEYS[1]  hash     {batch:<id>}
-- KEYS[2]  channel  {batch:<id>}:done
-- ARGV[1]  ms       how long a batch is kept that ends at once
-- RETURNS  {ok, cancelling | cancelled, 1 when it has ended with it}; {ended, the status that stands}; {not_found}
-- CLOCK    the server's TIME, for cancelling_at
-- WRITES   only while the batch is being validated or in progress

local batch, done = KEYS[1], KEYS[2]
local keep = ARGV[1]

local status, kind = unpack(redis.call('HMGET', batch, 'status', 'kind'))
if not status then return {'not_found'} end
if status == 'cancelling' then return {'ok', status, '0'} end
if status ~= 'validating' and status ~= 'in_progress' then return {'ended', status} end

local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
if status == 'validating' and kind == 'run' then
  redis.call('HSET', batch, 'status', 'cancelled', 'cancelling_at', now, 'cancelled_at', now)
  redis.call('PEXPIRE', batch, keep)
  redis.call('PUBLISH', done, 'cancelled')
  return {'ok', 'cancelled', '1'}
end
redis.call('HSET', batch, 'status', 'cancelling', 'cancelling_at', now)
redis.call('PUBLISH', done, 'cancelling')
return {'ok', 'cancelling', '0'}
