-- begin: write the intents of calls into the ledgers of their jobs, before the calls are sent.
--
-- EACH     job takes one key and three arguments, as written here for the first
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run
-- ARGV[2]  text  delivery
-- ARGV[3]  json  the attempt without its beginning, {"seq":<n>,
-- RETURNS  for each job {ok, seq}; {not_found}; {stale_run}; {ended}; {superseded}; {cancelled}; or an error of its own
-- CLOCK    none
-- WRITES   only when it allows the call, which waits no more. The same intent as the latest attempt's is the same attempt

local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local function begin(record, run, delivery, intent)
  local known = redis.call('HMGET', record, 'status', 'run', 'delivery', 'cancel', 'seq', 'waiting')
  local status, current, holder, cancel, seq = known[1], known[2], known[3], known[4], known[5]
  if not status then return {'not_found'} end
  if run ~= current then return {'stale_run'} end
  if ended[status] then return {'ended'} end
  if status ~= 'running' or holder ~= delivery then return {'superseded'} end
  if cancel then return {'cancelled'} end

  if seq and redis.call('HGET', record, 'a:' .. seq) == '{"seq":' .. seq .. ',' .. intent then
    return {'ok', seq}
  end
  seq = string.format('%d', (seq or 0) + 1)
  redis.call('HSET', record, 'seq', seq, 'a:' .. seq, '{"seq":' .. seq .. ',' .. intent)
  if known[6] then redis.call('HDEL', record, 'waiting') end
  return {'ok', seq}
end

local records, given, replies = KEYS, ARGV, {}
for i, record in ipairs(records) do
  local fine, reply = pcall(begin, record, unpack(given, 3 * i - 2, 3 * i))
  replies[i] = (fine or type(reply) == 'table') and reply or {err = reply}
end
return replies
