-- begin: a batch has so many members; or more than it had, where lines were added to its input.
--
-- KEYS[1]  hash     {batch:<id>}
-- KEYS[2]  string   {batch:<id>}:members
-- KEYS[3]  channel  {batch:<id>}:done
-- ARGV[1]  int      how many
-- ARGV[2]  ms       the deadline, since the epoch, of a batch that had ended and grows; 0 leaves it
-- RETURNS  {ok, in_progress, 1 when it had ended}; {ended | cancelling, the status that stands}; {not_found}
-- CLOCK    the server's TIME, for in_progress_at
-- WRITES   unless the batch has as many members, is being cancelled, or failed

local batch, members, done = KEYS[1], KEYS[2], KEYS[3]
local total, deadline = tonumber(ARGV[1]), ARGV[2]

local status, had = unpack(redis.call('HMGET', batch, 'status', 'total'))
if not status then return {'not_found'} end
if status == 'cancelling' then return {'cancelling', status} end
if status == 'failed' then return {'ended', status} end
had = tonumber(had or '0')
if status ~= 'validating' and total <= had then return {'ok', status, '0'} end

local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local fields = {'status', 'in_progress', 'total', string.format('%d', total)}
if status == 'validating' then
  fields[5], fields[6] = 'in_progress_at', now
end
redis.call('HSET', batch, unpack(fields))
if status == 'validating' or status == 'in_progress' then
  if status == 'validating' then redis.call('PUBLISH', done, 'in_progress') end
  return {'ok', 'in_progress', '0'}
end
redis.call('HDEL', batch, 'finalizing_at', 'completed_at', 'expired_at', 'cancelling_at', 'cancelled_at')
if deadline ~= '0' then redis.call('HSET', batch, 'deadline', deadline) end
redis.call('PERSIST', batch)
redis.call('PERSIST', members)
redis.call('PUBLISH', done, 'in_progress')
return {'ok', 'in_progress', '1'}
