-- commit: end jobs with their results, each once per run.
--
-- EACH     job takes two keys and nine arguments, as written here for the first
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
-- RETURNS  for each job {committed, status}; {refused, the status that stands}; {stale_run, the status that stands};
--          {not_found}; or an error of its own
-- CLOCK    none; the expiry is relative
-- WRITES   the attempt's end always, the rest only when it commits. The same delivery committing the same status
--          once more is answered as the first time

local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

local function commit(record, done, run, delivery, status, result, response, finished_at, keep_ms, seq, attempt)
  local known = redis.call('HMGET', record, 'status', 'run', 'delivery', 'a:' .. seq, 'waiting', 'cancel', 'last_error')
  local stands, current, holder, begun = known[1], known[2], known[3], known[4]
  if not stands then return {'not_found'} end
  if run ~= current or ended[stands] then
    if begun then redis.call('HSET', record, 'a:' .. seq, attempt) end
    if run ~= current then return {'stale_run', stands} end
    if stands == status and delivery ~= '' and delivery == holder then return {'committed', stands} end
    return {'refused', stands}
  end

  local fields = {'status', status, 'result', result, 'finished_at', finished_at}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if begun then set('a:' .. seq, attempt) end
  if response ~= '' then set('response', response) end
  if delivery ~= '' then set('delivery', delivery) end
  redis.call('HSET', record, unpack(fields))
  if known[5] or known[6] or known[7] then redis.call('HDEL', record, 'waiting', 'cancel', 'last_error') end
  if keep_ms ~= '0' then redis.call('PEXPIRE', record, keep_ms) end
  redis.call('PUBLISH', done, status)
  return {'committed', status}
end

local keys, given, replies = KEYS, ARGV, {}
for i = 1, #keys / 2 do
  local fine, reply = pcall(commit, keys[2 * i - 1], keys[2 * i], unpack(given, 9 * i - 8, 9 * i))
  replies[i] = (fine or type(reply) == 'table') and reply or {err = reply}
end
return replies
