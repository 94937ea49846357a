-- cross: tell of a level that is reached from below, once, and remember where it stands.
--
-- KEYS[1]  stream  events
-- KEYS[2]  hash    {events}:levels    name = level; no field is level 0
-- ARGV[1]  text    name of what has levels
-- ARGV[2]  int     its level now
-- ARGV[3]  int     how many events are kept, about
-- ARGV[4]  text    the event: names and texts, an even number, to the end of ARGV
-- RETURNS  1: the event is told; 0: it is not, for it was, or the level has fallen
-- CLOCK    none
-- WRITES   only when the level has changed; the stream only when it has risen

local stream = KEYS[1]
local levels = KEYS[2]
local name = ARGV[1]
local level = tonumber(ARGV[2])
local most = ARGV[3]
local event = {unpack(ARGV, 4)}

local before = tonumber(redis.call('HGET', levels, name) or '0')
if level == before then return 0 end
if level == 0 then
  redis.call('HDEL', levels, name)
else
  redis.call('HSET', levels, name, level)
end
if level < before then return 0 end
redis.call('XADD', stream, 'MAXLEN', '~', most, '*', unpack(event))
return 1
