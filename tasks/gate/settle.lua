-- settle: report what came of one admitted call, once.
--
-- KEYS[1]   hash  {acct:<account>}:ep:<endpoint>                 the breaker and its counters
-- KEYS[2]   zset  {acct:<account>}:ep:<endpoint>:settled         the tokens settled last, by the count of calls
-- KEYS[3]   hash  {acct:<account>}:limits:<model>                cooldown_until_ms
-- KEYS[4]   hash  {acct:<account>}:ep:<endpoint>:limits:<model>  not_served_until_ms
-- KEYS[5..] hash  {acct:<account>}:ep:<endpoint>                 the account's other endpoints, for trip_account
-- ARGV[1]   text  token of the attempt
-- ARGV[2]   int   generation under which it was admitted
-- ARGV[3]   text  effect: success, failure, ignore, release, trip, trip_account, throttle, not_served
-- ARGV[4]   us    latency, of a success
-- ARGV[5]   int   consecutive failures that open the breaker
-- ARGV[6]   ms    how long the effect lasts: open, cooling down, not served; 0 for the others
-- ARGV[7]   int   how many settled tokens are remembered
-- RETURNS   {counted|late|duplicate|released, change, generation, i...}; change is '', opened, reopened or closed;
--           each i is an endpoint of KEYS[5..], from 1, that trip_account opened
-- CLOCK     the server's TIME
-- WRITES    nothing for a duplicate; no state for a late report

local endpoint, settled, model_limits, route_limits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local siblings = {unpack(KEYS, 5)}
local token, admitted_under, effect = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local latency_us, threshold = tonumber(ARGV[4]), tonumber(ARGV[5])
local period_ms, remembered = tonumber(ARGV[6]), tonumber(ARGV[7])

local breaker = redis.call('HMGET', endpoint, 'state', 'generation', 'probe', 'calls', 'successes', 'failures',
  'consecutive_successes', 'consecutive_failures', 'latency_us')
local open = breaker[1] == 'open'
local generation = tonumber(breaker[2] or 0)
local is_probe = breaker[3] == token
local calls, successes, failures = (breaker[4] or 0) + 1, breaker[5] or 0, breaker[6] or 0
local successes_running, failures_running = breaker[7] or 0, breaker[8] or 0
local average_us = breaker[9] or latency_us

if effect ~= 'release' then
  if redis.call('ZADD', settled, 'NX', calls, token) == 0 then
    return {'duplicate', '', generation}
  end
  if calls % 256 == 0 then
    redis.call('ZREMRANGEBYSCORE', settled, '-inf', calls - remembered)
  end
end
if is_probe then
  redis.call('HSET', endpoint, 'probe', '', 'probe_until_ms', 0)
end
if effect == 'release' then
  return {'released', '', generation}
end

local ends_at = 0
if period_ms > 0 then
  local time = redis.call('TIME')
  ends_at = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + period_ms
end

-- Under one generation an open breaker is moved only by whoever holds the lease. A lease that ran out counts as held
-- until another takes it: nothing newer is known.
local late = admitted_under ~= generation or (open and not is_probe)
local change, opened = '', {}

if effect == 'success' then
  successes = successes + 1
  average_us = math.floor((7 * average_us + 3 * latency_us + 5) / 10)
  if not late then
    successes_running, failures_running = successes_running + 1, 0
    change = open and 'closed' or ''
  end
elseif effect == 'failure' or effect == 'trip' or effect == 'trip_account' then
  failures = failures + 1
  if not late then
    successes_running, failures_running = 0, failures_running + 1
    if open then
      change = 'reopened'
    elseif effect ~= 'failure' or failures_running >= threshold then
      change = 'opened'
    end
  end
elseif effect == 'throttle' or effect == 'not_served' then
  -- What the provider has said of a model holds whatever the breaker does meanwhile, and never ends the sooner for
  -- being said again.
  local limits, field = model_limits, 'cooldown_until_ms'
  if effect == 'not_served' then
    limits, field = route_limits, 'not_served_until_ms'
  end
  if tonumber(redis.call('HGET', limits, field) or 0) < ends_at then
    redis.call('HSET', limits, field, ends_at)
  end
end

redis.call('HSET', endpoint, 'calls', calls, 'successes', successes, 'failures', failures,
  'consecutive_successes', successes_running, 'consecutive_failures', failures_running)
if effect == 'success' then
  redis.call('HSET', endpoint, 'latency_us', average_us)
end

if change ~= '' then
  local state, count = 'open', 'trips'
  if change == 'closed' then
    state, count, ends_at = 'closed', 'recoveries', 0
  elseif change == 'reopened' then
    count = 'reopenings'
  end
  generation = generation + 1
  redis.call('HSET', endpoint, 'state', state, 'until_ms', ends_at, 'generation', generation)
  redis.call('HINCRBY', endpoint, count, 1)
end

if effect == 'trip_account' and not late then
  -- Also the siblings that are open change: what their probes may report is older than what is known now.
  for i, sibling in ipairs(siblings) do
    local other = redis.call('HMGET', sibling, 'state', 'until_ms')
    redis.call('HSET', sibling, 'state', 'open', 'until_ms', math.max(tonumber(other[2] or 0), ends_at))
    redis.call('HINCRBY', sibling, 'generation', 1)
    if other[1] ~= 'open' then
      redis.call('HINCRBY', sibling, 'trips', 1)
      opened[#opened + 1] = i
    end
  end
end

return {late and 'late' or 'counted', change, generation, unpack(opened)}
