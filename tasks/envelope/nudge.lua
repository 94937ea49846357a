-- nudge: when nothing of a queue is pending, move there the task of a lane that is next in turn.
--
-- Workers wait at pending only. Whoever adds to a lane, or may have left pending empty, nudges the queue.
--
-- KEYS[1]  list    asynq:{<queue>}:pending
-- KEYS[2]  set     asynq:{<queue>}:groups         names of lanes
-- KEYS[3]  string  asynq:{<queue>}:forebay:turn   the lane whose turn was last
-- ARGV[1]  string  prefix of the tasks' hashes, as in asynq: ids are known only here; same hash tag as KEYS
-- ARGV[2]  string  prefix of the lanes (zsets of ids by arrival, Unix s), as in asynq; same hash tag as KEYS
-- RETURNS  how many tasks were moved, 0 or 1
-- CLOCK    none: the task is pending since it came to its lane
-- WRITES   only when nothing is pending

local pending, groups, turn = KEYS[1], KEYS[2], KEYS[3]
local tasks, lanes = ARGV[1], ARGV[2]

if redis.call('EXISTS', pending) == 1 then
  return 0
end
local names = redis.call('SMEMBERS', groups)
local after = redis.call('GET', turn) or ''
table.sort(names)
local order = {}
for _, name in ipairs(names) do
  if name > after then order[#order + 1] = name end
end
for _, name in ipairs(names) do
  if name <= after then order[#order + 1] = name end
end

for _, name in ipairs(order) do
  local head = redis.call('ZRANGE', lanes .. name, 0, 0, 'WITHSCORES')
  if head[1] then
    redis.call('LPUSH', pending, head[1])
    redis.call('ZREM', lanes .. name, head[1])
    if redis.call('EXISTS', lanes .. name) == 0 then
      redis.call('SREM', groups, name)
    end
    -- What became of a task whose hash is gone is seen when it is claimed.
    if redis.call('EXISTS', tasks .. head[1]) == 1 then
      local since = string.format('%.0f', tonumber(head[2])) .. '000000000'
      redis.call('HSET', tasks .. head[1], 'state', 'pending', 'pending_since', since)
    end
    redis.call('SET', turn, name)
    return 1
  end
  redis.call('SREM', groups, name)
end
return 0
