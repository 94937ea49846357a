-- putback: give claimed tasks that nobody has begun back to the head of their queue, in their order.
--
-- A task is given back only while its lease is the one it was claimed with: after that it is someone else's. It is
-- written to pending before it is taken from active, so that a write refused at maxmemory loses nothing.
--
-- KEYS[1]  list    asynq:{<queue>}:pending
-- KEYS[2]  list    asynq:{<queue>}:active
-- KEYS[3]  zset    asynq:{<queue>}:lease
-- ARGV[1]  s       the lease expiry that the tasks were claimed with, Unix
-- ARGV[2]  string  prefix of the tasks' hashes; same hash tag as KEYS
-- ARGV[3:] string  ids, oldest first
-- RETURNS  how many were given back
-- CLOCK    the server's TIME, for pending_since (ns, what asynq computes a queue's latency from)
-- WRITES   only for tasks that are still the claimer's

local pending, active, lease = KEYS[1], KEYS[2], KEYS[3]
local expiry, tasks, first = tonumber(ARGV[1]), ARGV[2], 3

local time = redis.call('TIME')
local since = time[1] .. string.format('%06d', tonumber(time[2])) .. '000'
local given = 0
for i = #ARGV, first, -1 do
  local id = ARGV[i]
  local score = redis.call('ZSCORE', lease, id)
  if score and tonumber(score) == expiry then
    redis.call('RPUSH', pending, id)
    redis.call('LREM', active, 1, id)
    redis.call('ZREM', lease, id)
    redis.call('HSET', tasks .. id, 'state', 'pending', 'pending_since', since)
    given = given + 1
  end
end
return given
