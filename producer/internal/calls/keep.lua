-- keep: remember for some time which job a call waits for.
--
-- KEYS[1]  zset  {calls:<digest>}   "<job> <number of the try>", by when it is forgotten, in ms
-- ARGV[1]  text  the entry whose place it takes, which may be itself; empty for none
-- ARGV[2]  text  the entry
-- ARGV[3]  ms    how long
-- RETURNS  {1}; {0} where the entry whose place it takes is gone
-- CLOCK    the server's TIME
-- WRITES   unless that entry is gone; what is over is forgotten always

local key = KEYS[1]
local before, entry, keep_ms = ARGV[1], ARGV[2], ARGV[3]

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
if before ~= '' and redis.call('ZREM', key, before) == 0 then return {0} end
redis.call('ZADD', key, string.format('%.0f', now + keep_ms), entry)
local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', key, string.format('%.0f', tonumber(last[2])))
return {1}
