-- release: the answer of a job of a batch is written: its record is kept for its retention from now on.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  ms    how long the record is kept
-- RETURNS  {ok}; {open}: it has not ended, or is a dead letter; {not_found}
-- CLOCK    none; the expiry is relative
-- WRITES   only the expiry, of a record that has ended and is no dead letter

local record = KEYS[1]
local keep_ms = ARGV[1]

local status, refused = unpack(redis.call('HMGET', record, 'status', 'refused'))
if not status then return {'not_found'} end
if status == 'succeeded' or status == 'cancelled' or status == 'expired' or refused then
  redis.call('PEXPIRE', record, keep_ms)
  return {'ok'}
end
return {'open'}
