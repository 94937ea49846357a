-- begin: write the intent of a call into the ledger, before the call is sent.
--
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run
-- ARGV[2]  text  delivery
-- ARGV[3]  json  the attempt without its beginning, {"seq":<n>,
-- RETURNS  {ok, seq}; {not_found}; {stale_run}; {ended}; {superseded}; {cancelled}
-- CLOCK    none
-- WRITES   only when it allows the call. The same intent as the latest attempt's is the same attempt

local record = KEYS[1]
local run, delivery, intent = ARGV[1], ARGV[2], ARGV[3]
local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local known = redis.call('HMGET', record, 'status', 'run', 'delivery', 'cancel', 'seq')
local status, current, holder, cancel, seq = known[1], known[2], known[3], known[4], known[5] or '0'
if not status then return {'not_found'} end
if run ~= current then return {'stale_run'} end
if ended[status] then return {'ended'} end
if status ~= 'running' or holder ~= delivery then return {'superseded'} end
if cancel then return {'cancelled'} end

if redis.call('HGET', record, 'a:' .. seq) == '{"seq":' .. seq .. ',' .. intent then
  return {'ok', seq}
end
seq = string.format('%d', redis.call('HINCRBY', record, 'seq', 1))
redis.call('HSET', record, 'a:' .. seq, '{"seq":' .. seq .. ',' .. intent)
return {'ok', seq}
