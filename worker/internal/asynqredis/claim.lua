-- claim: take up to ARGV[3] tasks of one queue at once, each as asynq's dequeue takes one.
--
-- A claim has a number. Asked again with the same number it gives the same tasks again, those that still are the
-- claimer's, and takes no others: a claim whose reply was lost strands nothing. One with an older number than the
-- last is refused: it was overtaken on its way, and nobody waits for its reply. A task is written to active before
-- it is taken from pending, so that a write refused at maxmemory loses nothing.
--
-- KEYS[1]  list    asynq:{<queue>}:pending
-- KEYS[2]  string  asynq:{<queue>}:paused
-- KEYS[3]  list    asynq:{<queue>}:active
-- KEYS[4]  zset    asynq:{<queue>}:lease
-- KEYS[5]  list    asynq:{<queue>}:forebay:claim:<client>   number, lease expiry and ids of the client's last claim
-- ARGV[1]  int     number of the claim
-- ARGV[2]  s       when the leases expire, Unix, by the claimer's clock as in asynq
-- ARGV[3]  int     most tasks
-- ARGV[4]  string  prefix of the tasks' hashes, as in asynq: ids are known only here; same hash tag as KEYS
-- ARGV[5]  ms      how long the claim is remembered
-- ARGV[6]  0|1     asked again
-- RETURNS  {claimed|paused|late, left in pending, ids dropped because their task is gone, id, msg, id, msg, ...}
-- CLOCK    the server's TIME, to refuse a claim whose leases would have expired already ("late")
-- WRITES   only when it claims or drops, or is asked again

local pending, paused, active, lease, claim = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local number, expiry, most, tasks, keep, again = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]

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

-- The oldest stand last. Those whose task is gone are dropped, and the next looked at in their stead.
local ids, scores = {}, {}
while #ids < most do
  local oldest = redis.call('LRANGE', pending, #ids - most, -1)
  local found = {}
  for i = #oldest, 1, -1 do
    local msg = redis.call('HGET', tasks .. oldest[i], 'msg')
    if msg then
      found[#found + 1] = oldest[i]
      reply[#reply + 1] = oldest[i]
      reply[#reply + 1] = msg
    else
      reply[3] = reply[3] + 1
    end
  end
  if #found > 0 then
    redis.call('LPUSH', active, unpack(found))
  end
  if #oldest > 0 then
    redis.call('RPOP', pending, #oldest)
  end
  for _, id in ipairs(found) do
    redis.call('HSET', tasks .. id, 'state', 'active')
    redis.call('HDEL', tasks .. id, 'pending_since')
    ids[#ids + 1] = id
    scores[#scores + 1] = expiry
    scores[#scores + 1] = id
  end
  if #oldest == #found then
    break
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
