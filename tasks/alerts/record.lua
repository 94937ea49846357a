-- record: write what has become of the alerts, and the messages that tell of it, all of it or nothing.
--
-- KEYS[1]  hash  {alerts}:term     term, revision, samples
-- KEYS[2]  hash  {alerts}:state    alert = JSON
-- KEYS[3]  hash  {alerts}:outbox   message = JSON
-- ARGV[1]  int   the leader's term
-- ARGV[2]  int   the revision that was judged upon
-- ARGV[3]  int   how many alerts are written
-- ARGV[4]  int   how many alerts are forgotten
-- ARGV[5]  text  samples; empty: they stay
-- ARGV[6]  text  alerts and their JSON, then those forgotten, then messages and their JSON, to the end of ARGV
-- RETURNS  {ok, revision}; {stale, term}: a later leader has written; {changed, revision}: somebody has written since
-- CLOCK    none
-- WRITES   only when it answers ok

local standing, state, outbox = KEYS[1], KEYS[2], KEYS[3]
local term, revision = tonumber(ARGV[1]), tonumber(ARGV[2])
local written, forgotten = tonumber(ARGV[3]), tonumber(ARGV[4])
local samples, rest = ARGV[5], 6

local known = redis.call('HMGET', standing, 'term', 'revision')
local last, now = tonumber(known[1] or '0'), tonumber(known[2] or '0')
if last > term then return {'stale', string.format('%d', last)} end
if now ~= revision then return {'changed', string.format('%d', now)} end
for _ = 1, written do
  redis.call('HSET', state, ARGV[rest], ARGV[rest + 1])
  rest = rest + 2
end
for _ = 1, forgotten do
  redis.call('HDEL', state, ARGV[rest])
  rest = rest + 1
end
while rest < #ARGV do
  redis.call('HSET', outbox, ARGV[rest], ARGV[rest + 1])
  rest = rest + 2
end
if samples ~= '' then redis.call('HSET', standing, 'samples', samples) end
redis.call('HSET', standing, 'term', string.format('%d', term), 'revision', string.format('%d', now + 1))
return {'ok', string.format('%d', now + 1)}
