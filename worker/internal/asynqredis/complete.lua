-- complete: end tasks that are done and kept for a while, each as asynq's markAsComplete ends one.
--
-- What all of them share is done once: the statistics, and the lookups of the keys. A task is looked for from the end
-- of the active list, where the oldest are, and not through all of it.
--
-- KEYS[1]   list    asynq:{<queue>}:active
-- KEYS[2]   zset    asynq:{<queue>}:lease
-- KEYS[3]   zset    asynq:{<queue>}:completed
-- KEYS[4]   int     asynq:{<queue>}:processed:<day>
-- KEYS[5]   int     asynq:{<queue>}:processed
-- KEYS[6..] hash    asynq:{<queue>}:t:<id>, one for each task
-- ARGV[1]   s       when the day's statistics expire, Unix
-- ARGV[2]   int     at which the count of all starts again
-- ARGV[3..]         for each task its id, when it is deleted (Unix, s), and its message
-- RETURNS   for each task 1, or an error of its own: "NOT FOUND" when it is no longer active
-- CLOCK     none
-- WRITES    nothing for a task that has no lease or is not active, except that it is in neither any more

local active, lease, completed, processed_today, processed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tasks, stats_until, most, given = {unpack(KEYS, 6)}, ARGV[1], tonumber(ARGV[2]), {unpack(ARGV, 3)}

local function complete(task, id, keep_until, message)
  if redis.call('LREM', active, -1, id) == 0 or redis.call('ZREM', lease, id) == 0 then
    return redis.error_reply('NOT FOUND')
  end
  if redis.call('ZADD', completed, keep_until, id) ~= 1 then
    return redis.error_reply('INTERNAL')
  end
  redis.call('HSET', task, 'msg', message, 'state', 'completed')
  return 1
end

local replies, done = {}, 0
for i, task in ipairs(tasks) do
  local fine, reply = pcall(complete, task, unpack(given, 3 * i - 2, 3 * i))
  if reply == 1 then
    done = done + 1
  end
  replies[i] = (fine or type(reply) == 'table') and reply or redis.error_reply(reply)
end

if done > 0 then
  if redis.call('INCRBY', processed_today, done) == done then
    redis.call('EXPIREAT', processed_today, stats_until)
  end
  if tonumber(redis.call('GET', processed) or 0) + done >= most then
    redis.call('SET', processed, done)
  else
    redis.call('INCRBY', processed, done)
  end
end
return replies
