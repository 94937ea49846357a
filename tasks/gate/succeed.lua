-- succeed: report several successful calls of one endpoint at once, each once, while its breaker is closed.
--
-- It does what settle does for each of them, at a fraction of the price: the breaker is read and written once.
--
-- KEYS[1]   hash  {acct:<account>}:ep:<endpoint>          the breaker and its counters
-- KEYS[2]   zset  {acct:<account>}:ep:<endpoint>:settled  the tokens settled last, by the count of calls
-- ARGV[1]   int   generation under which all were admitted
-- ARGV[2]   int   how many settled tokens are remembered
-- ARGV[3..]       for each call its token and its latency in us
-- RETURNS   for each call 1, or 0 for a duplicate; {} when the breaker is not closed under that generation: settle
--           them one by one
-- CLOCK     none
-- WRITES    nothing for a duplicate, or when it answers {}

local endpoint, settled = KEYS[1], KEYS[2]
local generation, remembered = tonumber(ARGV[1]), tonumber(ARGV[2])
local reports = {unpack(ARGV, 3)}

local breaker = redis.call('HMGET', endpoint, 'state', 'generation', 'calls', 'successes', 'consecutive_successes',
  'latency_us')
if breaker[1] == 'open' or tonumber(breaker[2] or 0) ~= generation then
  return {}
end
local calls, successes, running = tonumber(breaker[3] or 0), breaker[4] or 0, breaker[5] or 0
local average_us, counted, answers = tonumber(breaker[6]), 0, {}

for i = 1, #reports, 2 do
  local token, latency_us = reports[i], tonumber(reports[i + 1])
  local new = redis.call('ZADD', settled, 'NX', calls + 1, token)
  if new == 1 then
    calls, counted = calls + 1, counted + 1
    average_us = math.floor((7 * (average_us or latency_us) + 3 * latency_us + 5) / 10)
    if calls % 256 == 0 then
      redis.call('ZREMRANGEBYSCORE', settled, '-inf', calls - remembered)
    end
  end
  answers[#answers + 1] = new
end
if counted > 0 then
  redis.call('HSET', endpoint, 'calls', calls, 'successes', successes + counted,
    'consecutive_successes', running + counted, 'consecutive_failures', 0, 'latency_us', average_us)
end
return answers
