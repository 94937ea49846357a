-- restore: look where one task stands, and put it where the record of its job says that it should be.
--
-- KEYS[1]  hash    asynq:{<queue>}:t:<id>
-- KEYS[2]  list    asynq:{<queue>}:pending
-- KEYS[3]  list    asynq:{<queue>}:active
-- KEYS[4]  zset    asynq:{<queue>}:lease
-- KEYS[5]  zset    asynq:{<queue>}:scheduled
-- KEYS[6]  zset    asynq:{<queue>}:retry
-- KEYS[7]  zset    asynq:{<queue>}:archived
-- KEYS[8]  zset    asynq:{<queue>}:completed
-- KEYS[9]  string  asynq:{<queue>}:forebay:term   the leader's term that wrote last
-- KEYS[10] set     asynq:{<queue>}:groups      names of lanes
-- ARGV[1]  int     the leader's term
-- ARGV[2]  string  id
-- ARGV[3]  text    look; write: the task of an open job; drop: of no open job
-- ARGV[4]  bytes   write: the task's message
-- ARGV[5]  s       write: when the task is due, Unix; 0 is now
-- ARGV[6]  bytes   a message that cannot be decoded, as it was read, or empty: the task counts as without one while
--                  it is that
-- ARGV[7]  string  the lane that the record says, or empty
-- ARGV[8]  string  prefix of the lanes (zsets of ids by arrival), as in asynq; same hash tag as KEYS
-- RETURNS  {stale, term}; {there, place}: nothing was to be done but perhaps to name the place in the hash,
--          or its lane among the groups;
--          {nowhere, hash | ""}; {enqueued, place}; {written, place}: it got its message where it stands;
--          {archived, place}: its message cannot be decoded; {dropped, place}
-- CLOCK    the server's TIME, for pending_since, the archive and places in lanes
-- WRITES   unless it looks, or the term is older than the one that wrote last; the state and the lane it names also
--          when it looks

local task, pending, active, lease, scheduled = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local retry, archived, completed, last_term, groups = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local term, id, verb, msg, due, unreadable = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local lane, lanes = ARGV[7], ARGV[8]

local stands = tonumber(redis.call('GET', last_term) or '0')
if stands > term then return {'stale', string.format('%d', stands)} end
if stands < term then redis.call('SET', last_term, string.format('%d', term)) end

local time = redis.call('TIME')
local since = time[1] .. string.format('%06d', tonumber(time[2])) .. '000'
local known = redis.call('HMGET', task, 'msg', 'state', 'group')
local held = known[1]
local sound = held and (unreadable == '' or held ~= unreadable)

-- The lanes in which it may stand: the one that its hash says, and the one that its record does; where neither says one,
-- and it is to be moved, any.
local candidates = {}
if known[3] and known[3] ~= '' then candidates[1] = known[3] end
if lane ~= '' and lane ~= known[3] then candidates[#candidates + 1] = lane end
if #candidates == 0 and verb ~= 'look' then candidates = redis.call('SMEMBERS', groups) end
local stands_in
for _, name in ipairs(candidates) do
  if redis.call('ZSCORE', lanes .. name, id) then stands_in = name end
end

local place
if redis.call('LPOS', active, id) then place = 'active'
elseif redis.call('ZSCORE', retry, id) then place = 'retry'
elseif redis.call('ZSCORE', scheduled, id) then place = 'scheduled'
elseif redis.call('ZSCORE', completed, id) then place = 'completed'
elseif redis.call('ZSCORE', archived, id) then place = 'archived'
elseif redis.call('LPOS', pending, id) then place = 'pending'
elseif stands_in then place = 'aggregating'
end

local function leave()
  redis.call('LREM', active, 0, id)
  redis.call('LREM', pending, 0, id)
  for _, set in ipairs({lease, scheduled, retry, archived, completed}) do redis.call('ZREM', set, id) end
  for _, name in ipairs(candidates) do redis.call('ZREM', lanes .. name, id) end
end

-- asynq finds the lane of a task by its hash, and the lanes by their names.
local function name_lane(name)
  redis.call('HSET', task, 'group', name)
  redis.call('SADD', groups, name)
end

if place and sound and not (verb == 'write' and place == 'completed') then
  if known[2] ~= place then redis.call('HSET', task, 'state', place) end
  if place == 'aggregating' then name_lane(stands_in) end
  return {'there', place}
end
if verb == 'look' then
  if place then return {'there', place} end
  if redis.call('EXISTS', task) == 1 then return {'nowhere', 'hash'} end
  return {'nowhere', ''}
end
if verb == 'drop' then
  if held and not sound then
    if place == 'archived' then return {'there', place} end
    leave()
    redis.call('ZADD', archived, time[1], id)
    redis.call('HSET', task, 'state', 'archived')
    return {'archived', place or ''}
  end
  leave()
  redis.call('DEL', task)
  return {'dropped', place or ''}
end

if place == 'active' or place == 'pending' or place == 'retry' or place == 'scheduled'
  or place == 'aggregating' then
  redis.call('HSET', task, 'msg', msg, 'state', place)
  if stands_in then name_lane(stands_in) end
  return {'written', place}
end
leave()
redis.call('DEL', task)
if due ~= '0' then
  redis.call('HSET', task, 'msg', msg, 'state', 'scheduled')
  redis.call('ZADD', scheduled, due, id)
  return {'enqueued', 'scheduled'}
end
if lane ~= '' then
  redis.call('HSET', task, 'msg', msg, 'state', 'aggregating')
  redis.call('ZADD', lanes .. lane, time[1], id)
  name_lane(lane)
  return {'enqueued', 'aggregating'}
end
redis.call('HSET', task, 'msg', msg, 'state', 'pending', 'pending_since', since)
redis.call('LPUSH', pending, id)
return {'enqueued', 'pending'}
