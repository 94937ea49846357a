-- forward: move tasks that are due, each as asynq's forward moves one: of a lane into it, else to pending.
--
-- A lane that was empty meanwhile is named again among the groups, which asynq's script does not do.
--
-- KEYS[1]  zset    asynq:{<queue>}:scheduled or :retry
-- KEYS[2]  list    asynq:{<queue>}:pending
-- KEYS[3]  set     asynq:{<queue>}:groups   names of lanes
-- ARGV[1]  s       now, Unix, by the asker's clock as in asynq
-- ARGV[2]  string  prefix of the tasks' hashes, as in asynq: ids are known only here; same hash tag as KEYS
-- ARGV[3]  ns      now, Unix
-- ARGV[4]  string  prefix of the lanes, as in asynq; same hash tag as KEYS
-- RETURNS  {how many were moved, at most 100; how many of them into lanes}
-- CLOCK    the asker's
-- WRITES   only when tasks are due

local source, pending, groups = KEYS[1], KEYS[2], KEYS[3]
local now, tasks, since, lanes = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local due = redis.call('ZRANGEBYSCORE', source, '-inf', now, 'LIMIT', 0, 100)
local laned = 0
for _, id in ipairs(due) do
  local name = redis.call('HGET', tasks .. id, 'group')
  if name and name ~= '' then
    redis.call('ZADD', lanes .. name, now, id)
    redis.call('SADD', groups, name)
    redis.call('ZREM', source, id)
    redis.call('HSET', tasks .. id, 'state', 'aggregating')
    laned = laned + 1
  else
    redis.call('LPUSH', pending, id)
    redis.call('ZREM', source, id)
    redis.call('HSET', tasks .. id, 'state', 'pending', 'pending_since', since)
  end
end
return {#due, laned}
