-- create: a batch is known. One that is there is left as it stands.
--
-- KEYS[1]  hash  {batch:<id>}
-- ARGV     name, value, ...: the first fields
-- RETURNS  {created, validating}; {exists, the status that stands, its tenant}
-- CLOCK    none
-- WRITES   only when there is no such batch

local batch, fields = KEYS[1], ARGV

local known = redis.call('HMGET', batch, 'status', 'tenant')
if known[1] then return {'exists', known[1], known[2]} end
redis.call('HSET', batch, 'status', 'validating', unpack(fields))
return {'created', 'validating'}
