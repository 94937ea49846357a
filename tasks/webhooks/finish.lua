-- finish: end a webhook without an attempt.
--
-- KEYS[1]  hash  {webhook:<id>}
-- ARGV[1]  text  the end: dead or discarded
-- ARGV[2]  text  reason
-- ARGV[3]  ms    how long the record of a discarded webhook is kept
-- ARGV[4]  int   cycle that is to end; 0 is any
-- RETURNS  {ok, the end}; {ended, the state that stands}; {stale}; {not_found}
-- CLOCK    the server's TIME, for ended_at
-- WRITES   only a pending webhook; a dead one may be discarded

local webhook = KEYS[1]
local state, reason, keep, cycle = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local known = redis.call('HMGET', webhook, 'state', 'cycle')
if not known[1] then return {'not_found'} end
if cycle ~= '0' and cycle ~= known[2] then return {'stale', known[2]} end
if known[1] == state then return {'ok', state} end
if known[1] ~= 'pending' and not (known[1] == 'dead' and state == 'discarded') then return {'ended', known[1]} end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', webhook, 'state', state, 'reason', reason, 'ended_at', now)
redis.call('HDEL', webhook, 'waiting', 'next_at')
if state == 'discarded' then redis.call('PEXPIRE', webhook, keep) end
return {'ok', state}
