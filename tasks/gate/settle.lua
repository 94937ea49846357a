-- settle: report what came of admitted calls on one route, in their order, each once.
--
-- KEYS[1]   hash  {acct:<account>}:ep:<endpoint>                 the breaker and its counters
-- KEYS[2]   zset  {acct:<account>}:ep:<endpoint>:settled         the tokens settled last, by the count of calls
-- KEYS[3]   hash  {acct:<account>}:limits:<model>                cooldown_until_ms
-- KEYS[4]   hash  {acct:<account>}:ep:<endpoint>:limits:<model>  not_served_until_ms
-- KEYS[5..]       for each scope that has limits two: a hash, its clocks, and a sorted set, its permits; then the
--                 breakers of the account's other endpoints, for trip_account
-- ARGV[1]   int   how many scopes have limits
-- ARGV[2]   int   which of them the provider's words are about; 0 is none
-- ARGV[3]   int   consecutive failures that open the breaker
-- ARGV[4]   int   how many settled tokens are remembered
-- ARGV[5]   ms    what doubled periods are capped at
-- ARGV[6]   ms    how long admission is ramped up after a recovery; 0 is not at all
-- ARGV[7]   ms    the window in which rates are counted; 0 is none
-- ARGV[8]   int   calls in the window below which there is no rate
-- ARGV[9]   0..1  rate of failures that opens the breaker; 0 is none
-- ARGV[10]  us    latency above which a call is slow
-- ARGV[11]  0..1  rate of slow calls that opens the breaker; 0 is none
-- ARGV[12..]      for each scope five, as admit takes them. Then for each report eleven: token of the attempt;
--                 generation under which it was admitted; effect (success, failure, ignore, release, trip,
--                 trip_account, throttle, not_served); us, latency of a success; ms, how long the effect lasts; 0|1,
--                 whether a failed probe doubles that; cause of a failure; tokens that it was admitted with; tokens
--                 that count; requests and tokens that the provider says remain, -1 is unknown
-- RETURNS   for each report {counted|late|duplicate|released, change, generation, i...}; change is '', opened, reopened
--           or closed; each i is one of the account's other endpoints, from 1, that trip_account opened
-- CLOCK     the server's TIME
-- WRITES    for a duplicate only that its permit is free; no state for a late report

local endpoint, settled, model_limits, route_limits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local others = {unpack(KEYS, 5)}
local scope_count, said_scope, threshold, remembered = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local longest_ms, ramp_ms, window_ms, least_calls = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local failure_rate, slow_us, slow_rate = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local given = {unpack(ARGV, 12)}

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(now_us / 1000)

local breaker = redis.call('HMGET', endpoint, 'state', 'generation', 'probe', 'calls', 'successes', 'failures',
  'consecutive_successes', 'consecutive_failures', 'latency_us')
local open, generation, holder = breaker[1] == 'open', tonumber(breaker[2] or 0), breaker[3]
local calls, successes, failures = tonumber(breaker[4] or 0), tonumber(breaker[5] or 0), tonumber(breaker[6] or 0)
local successes_running, failures_running = tonumber(breaker[7] or 0), tonumber(breaker[8] or 0)
local average_us = tonumber(breaker[9])
local counted, succeeded = false, false
local requests_back, tokens_back, said_requests, said_tokens = 0, 0, -1, -1

-- spoiled counts a call in the window of rates, and tells whether a rate now opens the breaker. The window is two
-- halves: the one that runs, and the one before it.
local function spoiled(failed, slow)
  if window_ms == 0 then
    return false
  end
  local half = window_ms / 2
  local w = redis.call('HMGET', endpoint, 'window_until_ms', 'window_calls', 'window_failures', 'window_slow',
    'before_calls', 'before_failures', 'before_slow')
  for i = 1, 7 do
    w[i] = tonumber(w[i] or 0)
  end
  if now >= w[1] then
    local recent = now < w[1] + half
    for i = 2, 4 do
      w[i + 3], w[i] = recent and w[i] or 0, 0
    end
    w[1] = now + half
  end
  w[2], w[3], w[4] = w[2] + 1, w[3] + (failed and 1 or 0), w[4] + (slow and 1 or 0)
  redis.call('HSET', endpoint, 'window_until_ms', w[1], 'window_calls', w[2], 'window_failures', w[3], 'window_slow', w[4],
    'before_calls', w[5], 'before_failures', w[6], 'before_slow', w[7])
  local all = w[2] + w[5]
  return all >= least_calls and ((failure_rate > 0 and w[3] + w[6] >= failure_rate * all) or
    (slow_rate > 0 and w[4] + w[7] >= slow_rate * all))
end

-- become gives the breaker another state.
local function become(change, period_ms, doubles, cause)
  local ends_at, count, doubled = 0, 'recoveries', 0
  if change ~= 'closed' then
    count = 'trips'
    if change == 'reopened' then
      count, doubled = 'reopenings', tonumber(redis.call('HGET', endpoint, 'doubled') or 0) + 1
      if doubles then
        period_ms = math.max(period_ms, math.min(period_ms * 2 ^ math.min(doubled, 30), longest_ms))
      end
    end
    ends_at = now + period_ms
  end
  open, generation = change ~= 'closed', generation + 1
  redis.call('HSET', endpoint, 'state', open and 'open' or 'closed', 'until_ms', string.format('%.0f', ends_at),
    'generation', generation, 'doubled', doubled, 'cause', open and cause or '',
    'ramp_until_ms', (not open and ramp_ms > 0) and now + ramp_ms or 0, 'ramp_stage', 0, 'ramp_used', 0)
  if window_ms > 0 then
    redis.call('HDEL', endpoint, 'window_until_ms', 'window_calls', 'window_failures', 'window_slow', 'before_calls',
      'before_failures', 'before_slow')
  end
  redis.call('HINCRBY', endpoint, count, 1)
end

-- open_others opens the account's other endpoints. Also those that are open change: what their probes may report is
-- older than what is known now.
local function open_others(ends_at, cause)
  local opened = {}
  for i = 2 * scope_count + 1, #others do
    local other = redis.call('HMGET', others[i], 'state', 'until_ms')
    redis.call('HSET', others[i], 'state', 'open', 'until_ms', math.max(tonumber(other[2] or 0), ends_at), 'cause', cause)
    redis.call('HINCRBY', others[i], 'generation', 1)
    if other[1] ~= 'open' then
      redis.call('HINCRBY', others[i], 'trips', 1)
      opened[#opened + 1] = i - 2 * scope_count
    end
  end
  return opened
end

local function succeed(latency_us, late)
  successes, succeeded = successes + 1, true
  average_us = math.floor((7 * (average_us or latency_us) + 3 * latency_us + 5) / 10)
  if late then
    return ''
  end
  successes_running, failures_running = successes_running + 1, 0
  if open then
    return 'closed'
  end
  return spoiled(false, slow_us > 0 and latency_us > slow_us) and 'opened' or ''
end

local function fail(effect, late)
  failures = failures + 1
  if late then
    return ''
  end
  successes_running, failures_running = 0, failures_running + 1
  if open then
    return 'reopened'
  end
  local rate = spoiled(true, false)
  return (effect ~= 'failure' or failures_running >= threshold or rate) and 'opened' or ''
end

-- rest remembers what the provider has said of a model. That holds whatever the breaker does meanwhile, and never ends
-- the sooner for being said again.
local function rest(limits, field, ends_at)
  if tonumber(redis.call('HGET', limits, field) or 0) < ends_at then
    redis.call('HSET', limits, field, ends_at)
  end
end

local function settle(token, admitted_under, effect, latency_us, period_ms, doubles, cause, charged, counts)
  for s = 1, scope_count do
    if given[5 * s] ~= '0' then
      redis.call('ZREM', others[2 * s], token)
    end
  end
  local is_probe = holder == token
  if redis.call('ZADD', settled, 'NX', calls + 1, token) == 0 then
    return {'duplicate', '', generation}
  end
  if is_probe then
    redis.call('HSET', endpoint, 'probe', '', 'probe_until_ms', 0)
    holder = ''
  end
  if effect == 'release' then
    requests_back, tokens_back = requests_back + 1, tokens_back + charged
    return {'released', '', generation}
  end
  tokens_back = tokens_back + charged - counts
  calls, counted = calls + 1, true
  if calls % 256 == 0 then
    redis.call('ZREMRANGEBYSCORE', settled, '-inf', calls - remembered)
  end

  -- Under one generation an open breaker is moved only by whoever holds the lease. A lease that ran out counts as held
  -- until another takes it: nothing newer is known.
  local late = admitted_under ~= generation or (open and not is_probe)
  local change, opened = '', {}
  if effect == 'success' then
    change = succeed(latency_us, late)
  elseif effect == 'failure' or effect == 'trip' or effect == 'trip_account' then
    change = fail(effect, late)
  elseif effect == 'throttle' then
    rest(model_limits, 'cooldown_until_ms', now + period_ms)
  elseif effect == 'not_served' then
    rest(route_limits, 'not_served_until_ms', now + period_ms)
  end
  if change ~= '' then
    become(change, period_ms, doubles, cause)
  end
  if effect == 'trip_account' and not late then
    opened = open_others(now + period_ms, cause)
  end
  return {late and 'late' or 'counted', change, generation, unpack(opened)}
end

local replies = {}
for i = 5 * scope_count + 1, #given, 11 do
  replies[#replies + 1] = settle(given[i], tonumber(given[i + 1]), given[i + 2], tonumber(given[i + 3]),
    tonumber(given[i + 4]), given[i + 5] == '1', given[i + 6], tonumber(given[i + 7]), tonumber(given[i + 8]))
  if replies[#replies][1] ~= 'duplicate' then
    said_requests, said_tokens = tonumber(given[i + 9]), tonumber(given[i + 10])
  end
end

if counted then
  redis.call('HSET', endpoint, 'calls', calls, 'successes', successes, 'failures', failures,
    'consecutive_successes', successes_running, 'consecutive_failures', failures_running)
end
if succeeded then
  redis.call('HSET', endpoint, 'latency_us', average_us)
end

-- move sets a clock right: what was taken and did not count comes back; and where the provider says that less remains
-- than a burst, no more than that can begin at once.
local function move(clocks, field, unit_us, burst_us, back, remain)
  if unit_us == 0 or (back == 0 and (remain < 0 or remain * unit_us >= burst_us)) then
    return
  end
  local stands = tonumber(redis.call('HGET', clocks, field) or 0) - back * unit_us
  if remain >= 0 then
    stands = math.max(stands, now_us + burst_us - remain * unit_us)
  end
  redis.call('HSET', clocks, field, string.format('%.0f', stands))
end

for s = 1, scope_count do
  local about = s == said_scope
  move(others[2 * s - 1], 'requests_until_us', tonumber(given[5 * s - 4]), tonumber(given[5 * s - 3]), requests_back,
    about and said_requests or -1)
  move(others[2 * s - 1], 'tokens_until_us', tonumber(given[5 * s - 2]), tonumber(given[5 * s - 1]), tokens_back,
    about and said_tokens or -1)
end
return replies
