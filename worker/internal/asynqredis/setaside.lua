-- setaside: move one claimed task that cannot be decoded to the archive, as it is.
--
-- Left in active it would stop asynq's recovery of every other expired lease of its queue.
--
-- KEYS[1]  list    asynq:{<queue>}:active
-- KEYS[2]  zset    asynq:{<queue>}:lease
-- KEYS[3]  zset    asynq:{<queue>}:archived
-- KEYS[4]  hash    asynq:{<queue>}:t:<id>
-- ARGV[1]  string  id
-- ARGV[2]  s       the lease expiry that it was claimed with, Unix
-- RETURNS  1, or 0 when the task is no longer the claimer's
-- CLOCK    the server's TIME, as the time of death
-- WRITES   only when the task is still the claimer's

local active, lease, archived, task = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, expiry = ARGV[1], tonumber(ARGV[2])

local score = redis.call('ZSCORE', lease, id)
if not score or tonumber(score) ~= expiry then
  return 0
end
redis.call('ZADD', archived, redis.call('TIME')[1], id)
redis.call('LREM', active, 1, id)
redis.call('ZREM', lease, id)
redis.call('HSET', task, 'state', 'archived')
return 1
