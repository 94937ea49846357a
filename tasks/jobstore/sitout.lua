-- sitout: deliveries wait for their next calls without giving their jobs back, and say for what.
--
-- EACH     job takes one key and three arguments, as written here for the first
-- KEYS[1]  hash  {job:<id>}
-- ARGV[1]  int   run
-- ARGV[2]  text  delivery
-- ARGV[3]  json  waiting
-- RETURNS  for each job {ok}; {not_found}; {stale_run}; {ended}; {superseded}; {cancelled}; or an error of its own
-- CLOCK    none
-- WRITES   only while the delivery holds the job and nobody has asked for its end. The beginning of a call takes it away

local ended = {succeeded = true, failed = true, cancelled = true, expired = true}

-- remember adds a wait to the last ones, a line each.
local function remember(record, waiting)
  local lines = {}
  for line in (redis.call('HGET', record, 'waits') or ''):gmatch('[^\n]+') do lines[#lines + 1] = line end
  lines[#lines + 1] = waiting
  redis.call('HSET', record, 'waiting', waiting, 'waits', table.concat(lines, '\n', math.max(1, #lines - 19)))
end

local function sitout(record, run, delivery, waiting)
  local known = redis.call('HMGET', record, 'status', 'run', 'delivery', 'cancel')
  local status, current, holder, cancel = known[1], known[2], known[3], known[4]
  if not status then return {'not_found'} end
  if run ~= current then return {'stale_run'} end
  if ended[status] then return {'ended'} end
  if status ~= 'running' or holder ~= delivery then return {'superseded'} end
  if cancel then return {'cancelled'} end

  remember(record, waiting)
  return {'ok'}
end

local records, given, replies = KEYS, ARGV, {}
for i, record in ipairs(records) do
  local fine, reply = pcall(sitout, record, unpack(given, 3 * i - 2, 3 * i))
  replies[i] = (fine or type(reply) == 'table') and reply or {err = reply}
end
return replies
