-- mend: bring one queue of asynq's back into order, all of it at one moment.
--
-- Whatever asynq and the workers do with a queue they do in scripts, so that between two scripts a task stands in
-- exactly one place and has a message, and an active one has a lease. What is otherwise was left half-written.
--
-- KEYS[1]  list    asynq:{<queue>}:pending
-- KEYS[2]  list    asynq:{<queue>}:active
-- KEYS[3]  zset    asynq:{<queue>}:lease       ids by expiry, Unix s
-- KEYS[4]  zset    asynq:{<queue>}:scheduled
-- KEYS[5]  zset    asynq:{<queue>}:retry
-- KEYS[6]  zset    asynq:{<queue>}:archived
-- KEYS[7]  zset    asynq:{<queue>}:completed
-- KEYS[8]  string  asynq:{<queue>}:forebay:term   the leader's term that wrote last
-- KEYS[9]  set     asynq:{<queue>}:groups      names of lanes
-- ARGV[1]  int     the leader's term
-- ARGV[2]  string  prefix of the tasks' hashes: ids are known only here; same hash tag as KEYS
-- ARGV[3]  int     first rank of the part of the long lists that is looked at; active and lease are always read whole
-- ARGV[4]  int     how many ranks
-- ARGV[5]  string  prefix of the lanes (zsets of ids by arrival), as in asynq; same hash tag as KEYS
-- ARGV[6:] id, s   dead deliveries: active tasks and the lease expiry with which they were found dead
-- RETURNS  {stale, term}; {ok, 1 when the part was the last one, what, id, what, id, ...}; what is
--          requeued  a dead delivery's task is the queue's next
--          leased    an active task got the lease it lacked, at its end: a living worker prolongs it
--          released  a lease without an active task is gone; adrift: and its hash still says that it is active
--          single    an id that stood in two places stands in one: the first of active, pending, retry, scheduled, a
--                    lane, completed, archived
--          forgotten an ended task without a hash is gone
--          bare      a task in a list has no message; nothing was done
-- CLOCK    the server's TIME, for new leases and pending_since
-- WRITES   unless the term is older than the one that wrote last. At most 1000 findings a run

local pending, active, lease, scheduled, retry = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local archived, completed, last_term, groups = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local term, tasks, first, count, lanes = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local dead_from = 6

local stands = tonumber(redis.call('GET', last_term) or '0')
if stands > term then return {'stale', string.format('%d', stands)} end
if stands < term then redis.call('SET', last_term, string.format('%d', term)) end

local time = redis.call('TIME')
local since = time[1] .. string.format('%06d', tonumber(time[2])) .. '000'
local final = first + count - 1
local reply = {'ok', '1'}
local room = 1000
local function tell(what, id)
  reply[#reply + 1] = what
  reply[#reply + 1] = id
  room = room - 1
end
local function bare(id) return redis.call('HEXISTS', tasks .. id, 'msg') == 0 end

local dead = {}
for i = dead_from, #ARGV, 2 do dead[ARGV[i]] = tonumber(ARGV[i + 1]) end

local running = {}
local ids = redis.call('LRANGE', active, 0, -1)
for _, id in ipairs(ids) do
  if running[id] then
    redis.call('LREM', active, -1, id)
    tell('single', id)
  end
  running[id] = true
end

local waiting = {}
for _, id in ipairs(redis.call('LRANGE', pending, first, final)) do
  if room <= 0 then break end
  if running[id] or waiting[id] then
    redis.call('LREM', pending, 1, id)
    tell('single', id)
  elseif bare(id) then
    tell('bare', id)
  end
  waiting[id] = true
end

-- From the newest to the oldest, so that the oldest of several is the queue's next.
for _, id in ipairs(ids) do
  if room <= 0 then break end
  if running[id] then
    local expiry = redis.call('ZSCORE', lease, id)
    if bare(id) then tell('bare', id) end
    if not expiry then
      redis.call('ZADD', lease, time[1], id)
      tell('leased', id)
    elseif dead[id] and tonumber(expiry) == dead[id] and not bare(id) then
      redis.call('RPUSH', pending, id)
      redis.call('LREM', active, -1, id)
      redis.call('ZREM', lease, id)
      redis.call('HSET', tasks .. id, 'state', 'pending', 'pending_since', since)
      running[id], waiting[id] = nil, true
      tell('requeued', id)
    end
  end
end

for _, id in ipairs(redis.call('ZRANGE', lease, 0, -1)) do
  if room <= 0 then break end
  if not running[id] then
    local state = redis.call('HGET', tasks .. id, 'state')
    redis.call('ZREM', lease, id)
    if state == 'active' then tell('adrift', id) else tell('released', id) end
  end
end

local function visit(set, from, to)
  local over = set == completed or set == archived
  for _, id in ipairs(redis.call('ZRANGE', set, from, to)) do
    if room <= 0 then break end
    if running[id] or waiting[id] then
      redis.call('ZREM', set, id)
      tell('single', id)
    elseif bare(id) and over then
      redis.call('ZREM', set, id)
      tell('forgotten', id)
    elseif bare(id) then
      tell('bare', id)
    end
    waiting[id] = true
  end
end

visit(retry, first, final)
visit(scheduled, first, final)

-- Lanes are ranked through, one after the other, so that many cost no more than one.
local names = redis.call('SMEMBERS', groups)
table.sort(names)
local laned = 0
for _, name in ipairs(names) do
  local size = redis.call('ZCARD', lanes .. name)
  if laned <= final and laned + size > first then
    visit(lanes .. name, math.max(first - laned, 0), final - laned)
  end
  laned = laned + size
end
visit(completed, first, final)
visit(archived, first, final)

if redis.call('LLEN', pending) > final + 1 or laned > final + 1 then reply[2] = '0' end
for _, set in ipairs({scheduled, retry, archived, completed}) do
  if redis.call('ZCARD', set) > final + 1 then reply[2] = '0' end
end
return reply
