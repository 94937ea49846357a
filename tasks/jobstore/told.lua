-- told: the webhook of a job's run has been delivered: the record is kept for its retention from now on.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run
-- ARGV[2]  ms    how long the record is kept
-- RETURNS  {ok}; {open}: it has not ended, or is a dead letter; {stale_run}; {not_found}
-- CLOCK    none; the expiry is relative
-- WRITES   only the expiry, of a record whose run has ended and that is no dead letter

local record = KEYS[1]
local run, keep_ms = ARGV[1], ARGV[2]

local status, current, refused = unpack(redis.call('HMGET', record, 'status', 'run', 'refused'))
if not status then return {'not_found'} end
if current ~= run then return {'stale_run'} end
if status == 'succeeded' or status == 'cancelled' or status == 'expired' or refused then
  redis.call('PEXPIRE', record, keep_ms)
  return {'ok'}
end
return {'open'}
