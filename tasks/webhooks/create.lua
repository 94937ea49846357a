-- create: a webhook is known. One that is there is left as it stands.
--
-- KEYS[1]  hash  {webhook:<id>}
-- ARGV     name, value, ...: the first fields
-- RETURNS  {created | exists, the state that stands, its cycle, its tenant, its shard or empty}
-- CLOCK    the server's TIME, for since
-- WRITES   only when there is no such webhook

local webhook, fields = KEYS[1], ARGV

local known = redis.call('HMGET', webhook, 'state', 'cycle', 'tenant', 'shard')
if known[1] then return {'exists', known[1], known[2], known[3], known[4] or ''} end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', webhook, unpack(fields))
redis.call('HSET', webhook, 'state', 'pending', 'cycle', '1', 'since', now, 'attempts', '0', 'tries', '0')
known = redis.call('HMGET', webhook, 'tenant', 'shard')
return {'created', 'pending', '1', known[1], known[2] or ''}
