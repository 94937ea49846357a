-- expired: list holds whose time is over, the oldest first.
--
-- KEYS[1]  zset  {budget}:holds  every hold, by its expiry in ms
-- ARGV[1]  int   how many at most
-- RETURNS  the holds, as they are stored
-- CLOCK    the server's TIME
-- WRITES   nothing

local holds = KEYS[1]
local most = ARGV[1]

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return redis.call('ZRANGEBYSCORE', holds, '-inf', string.format('%.0f', now), 'LIMIT', 0, most)
