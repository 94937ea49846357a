-- force: open or close one breaker by hand.
--
-- Nothing is counted. A probe that is out loses its lease, and every call that was admitted before reports late.
--
-- KEYS[1]  hash  {acct:<account>}:ep:<endpoint>  the breaker
-- ARGV[1]  text  open or closed: the state that it gets
-- ARGV[2]  ms    how long it stays open before a probe is let through; 0 to close it
-- RETURNS  {state before: open or closed, generation}
-- CLOCK    the server's TIME
-- WRITES   always: state, until_ms, generation, the lease, and forced_generation, the generation that it made. While
--          that is still the breaker's, its state is the one that was asked for. What remains of a ramp, of periods
--          that doubled and of a cause is taken away

local endpoint = KEYS[1]
local state, period_ms = ARGV[1], tonumber(ARGV[2])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local breaker = redis.call('HMGET', endpoint, 'state', 'generation')
local before = breaker[1] == 'open' and 'open' or 'closed'
local generation = tonumber(breaker[2] or 0) + 1
local until_ms = state == 'open' and now + period_ms or 0

redis.call('HSET', endpoint, 'state', state, 'until_ms', until_ms, 'generation', generation,
  'forced_generation', generation, 'probe', '', 'probe_until_ms', 0)
redis.call('HDEL', endpoint, 'ramp_until_ms', 'ramp_stage', 'ramp_used', 'doubled', 'cause')
return {before, generation}
