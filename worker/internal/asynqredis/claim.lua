-- claim: take up to ARGV[3] tasks of one queue at once, each as asynq's dequeue takes one.
--
-- Tasks wait in several sources: pending, and the lanes, which are asynq's groups. Sources take turns, by name, pending
-- first, so that each that has work has the same share of what is claimed; within one it is the order of arrival. Whose
-- turn was last is kept, so that shares hold for claims of one task, too. A claim that leaves pending empty moves the
-- next in turn of a lane there, because workers wait at pending only. Without lanes this costs one command.
--
-- A claim has a number. Asked again with the same number it gives the same tasks again, those that still are the
-- claimer's, and takes no others: a claim whose reply was lost strands nothing. One with an older number than the
-- last is refused: it was overtaken on its way, and nobody waits for its reply. A task is written to active before
-- it is taken from its source, so that a write refused at maxmemory loses nothing.
--
-- KEYS[1]  list    asynq:{<queue>}:pending
-- KEYS[2]  string  asynq:{<queue>}:paused
-- KEYS[3]  list    asynq:{<queue>}:active
-- KEYS[4]  zset    asynq:{<queue>}:lease
-- KEYS[5]  list    asynq:{<queue>}:forebay:claim:<client>   number, lease expiry and ids of the client's last claim
-- KEYS[6]  set     asynq:{<queue>}:groups         names of lanes
-- KEYS[7]  string  asynq:{<queue>}:forebay:turn   the lane whose turn was last; empty or absent for pending
-- ARGV[1]  int     number of the claim
-- ARGV[2]  s       when the leases expire, Unix, by the claimer's clock as in asynq
-- ARGV[3]  int     most tasks
-- ARGV[4]  string  prefix of the tasks' hashes, as in asynq: ids are known only here; same hash tag as KEYS
-- ARGV[5]  ms      how long the claim is remembered
-- ARGV[6]  0|1     asked again
-- ARGV[7]  string  prefix of the lanes (zsets of ids by arrival, Unix s), as in asynq; same hash tag as KEYS
-- RETURNS  {claimed|paused|late, left in pending, ids dropped because their task is gone, id, msg, id, msg, ...}
-- CLOCK    the server's TIME, to refuse a claim whose leases would have expired already ("late")
-- WRITES   only when it claims or drops, or is asked again

local pending, paused, active, lease, claim, groups, turn = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local number, expiry, most, tasks, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local again, lanes = ARGV[6], ARGV[7]

local reply = {'claimed', 0, 0}
local last = redis.call('LRANGE', claim, 0, -1)
if last[1] and tonumber(last[1]) > tonumber(number) then
  return {'late', 0, 0}
end
if last[1] == number then
  for i = 3, #last do
    local id = last[i]
    local score = redis.call('ZSCORE', lease, id)
    if score and tonumber(score) == tonumber(last[2]) then
      redis.call('ZADD', lease, expiry, id)
      reply[#reply + 1] = id
      reply[#reply + 1] = redis.call('HGET', tasks .. id, 'msg') or ''
    end
  end
  redis.call('LSET', claim, 1, expiry)
  redis.call('PEXPIRE', claim, keep)
  reply[2] = redis.call('LLEN', pending)
  return reply
end

if tonumber(redis.call('TIME')[1]) >= tonumber(expiry) then
  return {'late', 0, 0}
end
if redis.call('EXISTS', paused) == 1 then
  reply[1] = 'paused'
  most = 0
end

-- The empty name is that of pending. The oldest of pending stand last, those of a lane first.
local function oldest(name, count)
  if name ~= '' then
    return redis.call('ZRANGE', lanes .. name, 0, count - 1)
  end
  local ids = redis.call('LRANGE', pending, -count, -1)
  for i = 1, #ids / 2 do
    ids[i], ids[#ids + 1 - i] = ids[#ids + 1 - i], ids[i]
  end
  return ids
end

local function remove(name, ids)
  if #ids == 0 then return end
  if name == '' then
    redis.call('RPOP', pending, #ids)
  else
    redis.call('ZREM', lanes .. name, unpack(ids))
  end
end

-- Takes so many of a source, or all that it has. Those whose task is gone are dropped, and the next looked at in
-- their stead.
local ids, scores = {}, {}
local function take(name, count)
  local taken = 0
  while taken < count do
    local heads = oldest(name, count - taken)
    local found = {}
    for _, id in ipairs(heads) do
      local msg = redis.call('HGET', tasks .. id, 'msg')
      if msg then
        found[#found + 1] = id
        reply[#reply + 1] = id
        reply[#reply + 1] = msg
      else
        reply[3] = reply[3] + 1
      end
    end
    if #found > 0 then
      redis.call('LPUSH', active, unpack(found))
    end
    remove(name, heads)
    for _, id in ipairs(found) do
      redis.call('HSET', tasks .. id, 'state', 'active')
      redis.call('HDEL', tasks .. id, 'pending_since')
      ids[#ids + 1] = id
      scores[#scores + 1] = expiry
      scores[#scores + 1] = id
    end
    taken = taken + #found
    if #heads == #found then
      break
    end
  end
  return taken
end

-- The sources in the order of their turns, the next first.
local function inTurn(names)
  local after = redis.call('GET', turn) or ''
  table.sort(names)
  local order = {}
  for _, name in ipairs(names) do
    if name > after then order[#order + 1] = name end
  end
  for _, name in ipairs(names) do
    if name <= after then order[#order + 1] = name end
  end
  return order
end

-- Takes in turn until nothing is left or enough is taken: of each the same, as far as it has them, in as few rounds as
-- that takes.
local function takeInTurn(names)
  local live = inTurn(names)
  local served
  while #ids < most and #live > 0 do
    local each = math.max(1, math.floor((most - #ids) / #live))
    local more = {}
    for _, name in ipairs(live) do
      if #ids == most then break end
      local taken = take(name, each)
      if taken > 0 then served = name end
      if name ~= '' and redis.call('EXISTS', lanes .. name) == 0 then
        redis.call('SREM', groups, name)
      elseif taken == each then
        more[#more + 1] = name
      end
    end
    live = more
  end
  return served
end

-- Moves the next in turn to pending, which is empty. What became of its task is seen when it is claimed.
local function nudge()
  for _, name in ipairs(inTurn(redis.call('SMEMBERS', groups))) do
    local head = redis.call('ZRANGE', lanes .. name, 0, 0, 'WITHSCORES')
    if head[1] then
      redis.call('LPUSH', pending, head[1])
      redis.call('ZREM', lanes .. name, head[1])
      if redis.call('EXISTS', lanes .. name) == 0 then
        redis.call('SREM', groups, name)
      end
      if redis.call('EXISTS', tasks .. head[1]) == 1 then
        local since = string.format('%.0f', tonumber(head[2])) .. '000000000'
        redis.call('HSET', tasks .. head[1], 'state', 'pending', 'pending_since', since)
      end
      redis.call('SET', turn, name)
      return
    end
    redis.call('SREM', groups, name)
  end
end

local names = {}
if most > 0 then
  names = redis.call('SMEMBERS', groups)
end
if #names == 0 then
  take('', most)
else
  names[#names + 1] = ''
  local served = takeInTurn(names)
  if served then
    redis.call('SET', turn, served)
  end
  if redis.call('EXISTS', pending) == 0 then
    nudge()
  end
  if redis.call('EXISTS', groups) == 0 then
    redis.call('DEL', turn)
  end
end

if #ids > 0 then
  redis.call('ZADD', lease, unpack(scores))
end
if #ids > 0 or again == '1' then
  redis.call('DEL', claim)
  redis.call('RPUSH', claim, number, expiry, unpack(ids))
  redis.call('PEXPIRE', claim, keep)
end
reply[2] = redis.call('LLEN', pending)
return reply
