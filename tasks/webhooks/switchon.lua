-- switchon: let attempts at a URL and its target be made again, at once.
--
-- KEYS[1]  hash  {webhooks:<tenant>}:t:<target>
-- ARGV[1]  text  digest of the URL
-- RETURNS  {ok, 1 when the URL was off}; {not_found}
-- CLOCK    none
-- WRITES   where the target is known

local target = KEYS[1]
local url = ARGV[1]

if redis.call('EXISTS', target) == 0 then return {'not_found'} end
local was = redis.call('HDEL', target, 'off:' .. url)
if was > 0 then redis.call('HINCRBY', target, 'offs', -1) end
redis.call('HDEL', target, 'state', 'failures', 'opens', 'until_ms', 'probe', 'probe_until_ms', 'rest_until_ms', 'ticket_until_ms')
redis.call('HINCRBY', target, 'generation', 1)
return {'ok', string.format('%d', was)}
