-- due: look whether any scheduled or retried task of a queue is due, for both sets in one command.
--
-- KEYS[1]  zset  asynq:{<queue>}:scheduled
-- KEYS[2]  zset  asynq:{<queue>}:retry
-- ARGV[1]  s     now, Unix, by the asker's clock as in asynq
-- RETURNS  {due in scheduled, due in retry}, each 0 or 1
-- CLOCK    the asker's
-- WRITES   nothing

local scheduled, retry = KEYS[1], KEYS[2]
local now = ARGV[1]

return {
  #redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, 1),
  #redis.call('ZRANGEBYSCORE', retry, '-inf', now, 'LIMIT', 0, 1),
}
