-- fail: end a batch of which nothing was accepted.
--
-- KEYS[1]  hash     {batch:<id>}
-- KEYS[2]  channel  {batch:<id>}:done
-- ARGV[1]  json     why
-- ARGV[2]  ms       how long it is kept
-- RETURNS  {ok, failed, 1 when it has failed with it}; {ended, the status that stands}; {not_found}
-- CLOCK    the server's TIME, for failed_at
-- WRITES   only while the batch is being validated

local batch, done = KEYS[1], KEYS[2]
local problems, keep = ARGV[1], ARGV[2]

local status = redis.call('HGET', batch, 'status')
if not status then return {'not_found'} end
if status == 'failed' then return {'ok', status, '0'} end
if status ~= 'validating' then return {'ended', status} end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', batch, 'status', 'failed', 'failed_at', now, 'problems', problems)
redis.call('PEXPIRE', batch, keep)
redis.call('PUBLISH', done, 'failed')
return {'ok', 'failed', '1'}
