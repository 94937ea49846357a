-- tell: write a refusal into the stream of refusals, once per entry. It is reject's first half, where the inbox lies in
-- another slot.
--
-- KEYS[1]  stream  inbox:rejected
-- KEYS[2]  zset    {inbox:rejected}:entries, by the time of their refusal
-- ARGV[1]  text    the entry's id
-- ARGV[2]  int     about how many refusals are kept
-- ARGV[3]  ms      for how long it is remembered that the entry was refused
-- ARGV[4]  text    the name of a field of the refusal, ARGV[5] its value; further pairs follow
-- RETURNS  1, or 0 where it was told before
-- CLOCK    the server's TIME
-- WRITES   only when it was not told before

local rejected, entries = KEYS[1], KEYS[2]
local entry, keep, remember_ms, refusal = ARGV[1], ARGV[2], ARGV[3], {unpack(ARGV, 4)}
local second = ARGV[5] -- a pair at least
if not second then return redis.error_reply('tell: the refusal has no fields') end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZSCORE', entries, entry) then return 0 end
redis.call('ZREMRANGEBYSCORE', entries, '-inf', now - remember_ms)
redis.call('ZADD', entries, now, entry)
redis.call('PEXPIRE', entries, remember_ms)
redis.call('XADD', rejected, 'MAXLEN', '~', keep, '*', unpack(refusal))
return 1
