-- settle: say what has become of the try that was begun last. It may be said by a leader whose term is over: what it has
-- sent is sent.
--
-- KEYS[1]  hash  {alerts}:outbox   message = JSON
-- KEYS[2]  hash  {alerts}:tries    message = "<tries> <ms until it rests>"
-- ARGV[1]  text  id of the message
-- ARGV[2]  int   the try
-- ARGV[3]  ms    how long the message rests; below 0: it is delivered, or given up
-- RETURNS  {ok, 0}; {late, try}: another try was begun since; {gone, 0}
-- CLOCK    the server's TIME
-- WRITES   only when it answers ok

local outbox, tries = KEYS[1], KEYS[2]
local id, try, rest_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if redis.call('HEXISTS', outbox, id) == 0 then return {'gone', '0'} end
local done = tonumber(string.match(redis.call('HGET', tries, id) or '0 0', '^(%d+)'))
if done ~= try then return {'late', string.format('%d', done)} end
if rest_ms < 0 then
  redis.call('HDEL', outbox, id)
  redis.call('HDEL', tries, id)
  return {'ok', '0'}
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', tries, id, string.format('%d %d', try, now + rest_ms))
return {'ok', '0'}
