-- begin: take one message to send it. It is nobody else's until the lease ends.
--
-- KEYS[1]  hash  {alerts}:term     term
-- KEYS[2]  hash  {alerts}:outbox   message = JSON
-- KEYS[3]  hash  {alerts}:tries    message = "<tries> <ms until it rests>"
-- ARGV[1]  int   the leader's term
-- ARGV[2]  text  id of the message
-- ARGV[3]  ms    lease
-- RETURNS  {begun, try}; {wait, ms}; {gone, 0}; {stale, term}: a later leader is there
-- CLOCK    the server's TIME
-- WRITES   only when it answers begun, and a term that is newer

local standing, outbox, tries = KEYS[1], KEYS[2], KEYS[3]
local term, id, lease_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local last = tonumber(redis.call('HGET', standing, 'term') or '0')
if last > term then return {'stale', string.format('%d', last)} end
if last < term then redis.call('HSET', standing, 'term', string.format('%d', term)) end
if redis.call('HEXISTS', outbox, id) == 0 then return {'gone', '0'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local done, rests = string.match(redis.call('HGET', tries, id) or '0 0', '^(%d+) (%d+)$')
if tonumber(rests) > now then return {'wait', string.format('%d', tonumber(rests) - now)} end
local try = tonumber(done) + 1
redis.call('HSET', tries, id, string.format('%d %d', try, now + lease_ms))
return {'begun', string.format('%d', try)}
