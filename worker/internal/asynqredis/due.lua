-- due: look whether any scheduled or retried task of a queue is due, and whether its lanes wait for a nudge, in one
-- command.
--
-- KEYS[1]  zset  asynq:{<queue>}:scheduled
-- KEYS[2]  zset  asynq:{<queue>}:retry
-- KEYS[3]  list  asynq:{<queue>}:pending
-- KEYS[4]  set   asynq:{<queue>}:groups   names of lanes
-- ARGV[1]  s     now, Unix, by the asker's clock as in asynq
-- RETURNS  {due in scheduled, due in retry, there are lanes and nothing is pending}, each 0 or 1
-- CLOCK    the asker's
-- WRITES   nothing

local scheduled, retry, pending, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = ARGV[1]

return {
  #redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, 1),
  #redis.call('ZRANGEBYSCORE', retry, '-inf', now, 'LIMIT', 0, 1),
  redis.call('EXISTS', groups) * (1 - redis.call('EXISTS', pending)),
}
