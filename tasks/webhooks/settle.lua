-- settle: write down what came of an attempt, and what follows from it.
--
-- One that is late, because another one has begun or the webhook has ended, is written into the history, and changes
-- nothing else; unless it was delivered, which always holds but for a webhook that was discarded.
--
-- KEYS[1]  hash  {webhook:<id>}
-- ARGV[1]  int   number of the attempt
-- ARGV[2]  json  the attempt
-- ARGV[3]  text  the state that follows: pending, delivered or dead
-- ARGV[4]  text  reason of the end; of a wait, what is waited for
-- ARGV[5]  ms    when the next attempt is due, since the epoch; 0 is none
-- ARGV[6]  ms    how long the record of a delivered webhook is kept
-- ARGV[7]  int   1 when the attempt does not count as one of the cycle's
-- RETURNS  {ok | late, the state that stands}; {not_found}. Repeated, it answers the same
-- CLOCK    the server's TIME, for ended_at
-- WRITES   the attempt, where it is still in the history; the rest unless it is late

local webhook = KEYS[1]
local number, attempt, state, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local due, keep, free = ARGV[5], ARGV[6], ARGV[7]

local known = redis.call('HMGET', webhook, 'state', 'open', 'settled')
if not known[1] then return {'not_found'} end
if known[3] == number then return {'ok', known[1]} end
if redis.call('HEXISTS', webhook, 'a:' .. number) == 1 then
  redis.call('HSET', webhook, 'a:' .. number, attempt)
end
local ours = known[2] == number
if ours then redis.call('HDEL', webhook, 'open', 'open_until') end
local holds = ours and known[1] == 'pending'
if state == 'delivered' and known[1] ~= 'delivered' and known[1] ~= 'discarded' then holds = true end
if not holds then return {'late', known[1]} end
redis.call('HSET', webhook, 'settled', number)
if free == '1' then redis.call('HINCRBY', webhook, 'tries', -1) end
if state == 'pending' then
  redis.call('HSET', webhook, 'waiting', reason, 'next_at', due)
  return {'ok', state}
end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', webhook, 'state', state, 'reason', reason, 'ended_at', now)
redis.call('HDEL', webhook, 'waiting', 'next_at')
if state == 'delivered' then redis.call('PEXPIRE', webhook, keep) end
return {'ok', state}
