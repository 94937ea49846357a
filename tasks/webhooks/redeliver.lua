-- redeliver: begin a webhook's schedule anew, in a new cycle, whatever has become of it.
--
-- KEYS[1]  hash  {webhook:<id>}
-- RETURNS  {ok, the new cycle}; {not_found}
-- ARGV     none
-- CLOCK    the server's TIME, for since
-- WRITES   always; its history stays

local webhook = KEYS[1]

if redis.call('EXISTS', webhook) == 0 then return {'not_found'} end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local cycle = redis.call('HINCRBY', webhook, 'cycle', 1)
redis.call('HSET', webhook, 'state', 'pending', 'since', now, 'tries', '0')
redis.call('HDEL', webhook, 'reason', 'ended_at', 'waiting', 'next_at')
redis.call('PERSIST', webhook)
return {'ok', string.format('%d', cycle)}
