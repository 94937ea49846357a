-- postpone: write down what a webhook waits for. It is no attempt.
--
-- KEYS[1]  hash  {webhook:<id>}
-- ARGV[1]  text  what it waits for
-- ARGV[2]  ms    for how long
-- RETURNS  {ok, when it is due}; {ended, the state that stands}; {not_found}
-- CLOCK    the server's TIME
-- WRITES   only while it is pending

local webhook = KEYS[1]
local reason, wait = ARGV[1], tonumber(ARGV[2])

local state = redis.call('HGET', webhook, 'state')
if not state then return {'not_found'} end
if state ~= 'pending' then return {'ended', state} end
local time = redis.call('TIME')
local due = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) + wait)
redis.call('HSET', webhook, 'waiting', reason, 'next_at', due)
return {'ok', due}
