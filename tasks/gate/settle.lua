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
-- ARGV[12..]      for each scope five, as admit takes them. Then for each report twelve: token of the attempt;
--                 generation under which it was admitted; effect (success, failure, ignore, release, trip,
--                 trip_account, throttle, not_served); us, latency of a success; ms, how long the effect lasts; 0|1,
--                 whether a failed probe doubles that; cause of a failure; tokens that it was admitted with; tokens
--                 that count; requests and tokens that the provider says remain, -1 is unknown; ms, for which the model rests
--                 on the account whatever the effect, 0 is not at all
-- RETURNS   for each report {counted|late|duplicate|released, change, generation, i...}, or the generation alone where it
--           was counted and changed nothing; change is '', opened, reopened or closed; each i is one of the account's
--           other endpoints, from 1, that trip_account opened
-- CLOCK     the server's TIME
-- WRITES    for a duplicate only that its permit is free; no state for a late report

local endpoint, settled, model_limits, route_limits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local keys, keys_from = KEYS, 5
local scope_count, said_scope, threshold, remembered = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local longest_ms, ramp_ms, window_ms, least_calls = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local failure_rate, slow_us, slow_rate = ARGV[9], tonumber(ARGV[10]), ARGV[11]
local given, given_from = ARGV, 12

local call = redis.call

local time = call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(now_us / 1000)

local breaker = call('HMGET', endpoint, 'state', 'generation', 'probe', 'calls', 'successes', 'failures',
  'consecutive_successes', 'consecutive_failures', 'latency_us')
local open, generation, holder = breaker[1] == 'open', tonumber(breaker[2] or 0), breaker[3]
local calls, successes, failures = tonumber(breaker[4] or 0), tonumber(breaker[5] or 0), tonumber(breaker[6] or 0)
local successes_running, failures_running = tonumber(breaker[7] or 0), tonumber(breaker[8] or 0)
local average_us = tonumber(breaker[9])
local failures_before, failures_running_before = failures, failures_running
local counted, said_requests, said_tokens = false, -1, -1
local corrections = {} -- of clocks, each three: token, requests and tokens that were taken too many

-- spoiled counts a call in the window of rates, and tells whether its rate, of failures or of slow calls, now opens the
-- breaker. The window is two halves: the one that runs, and the one before it.
local function spoiled(failed, slow)
  local half = window_ms / 2
  local w = call('HMGET', endpoint, 'window_until_ms', 'window_calls', 'window_failures', 'window_slow',
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
  call('HSET', endpoint, 'window_until_ms', w[1], 'window_calls', w[2], 'window_failures', w[3], 'window_slow', w[4],
    'before_calls', w[5], 'before_failures', w[6], 'before_slow', w[7])
  local all, of, rate = w[2] + w[5], w[4] + w[7], tonumber(slow_rate)
  if failed then
    of, rate = w[3] + w[6], tonumber(failure_rate)
  end
  return all >= tonumber(least_calls) and rate > 0 and of >= rate * all
end

-- become gives the breaker another state.
local function become(change, period_ms, doubles, cause)
  local ends_at, count, doubled = 0, 'recoveries', 0
  if change ~= 'closed' then
    count = 'trips'
    if change == 'reopened' then
      count, doubled = 'reopenings', tonumber(call('HGET', endpoint, 'doubled') or 0) + 1
      if doubles then
        period_ms = math.max(period_ms, math.min(period_ms * 2 ^ math.min(doubled, 30), tonumber(longest_ms)))
      end
    end
    ends_at = now + period_ms
  end
  open, generation = change ~= 'closed', generation + 1
  call('HSET', endpoint, 'state', open and 'open' or 'closed', 'until_ms', string.format('%.0f', ends_at),
    'generation', generation, 'doubled', doubled, 'cause', open and cause or '',
    'ramp_until_ms', (not open and ramp_ms > 0) and now + ramp_ms or 0, 'ramp_stage', 0, 'ramp_used', 0)
  if window_ms > 0 then
    call('HDEL', endpoint, 'window_until_ms', 'window_calls', 'window_failures', 'window_slow', 'before_calls',
      'before_failures', 'before_slow')
  end
  call('HINCRBY', endpoint, count, 1)
end

-- open_others opens the account's other endpoints. Also those that are open change: what their probes may report is
-- older than what is known now.
local function open_others(ends_at, cause)
  local opened, first = {}, keys_from + 2 * scope_count
  for i = first, #keys do
    local other = call('HMGET', keys[i], 'state', 'until_ms')
    call('HSET', keys[i], 'state', 'open', 'until_ms', math.max(tonumber(other[2] or 0), ends_at), 'cause', cause,
      'ramp_until_ms', 0)
    call('HINCRBY', keys[i], 'generation', 1)
    if other[1] ~= 'open' then
      call('HINCRBY', keys[i], 'trips', 1)
      opened[#opened + 1] = i - first + 1
    end
  end
  return opened
end

-- rest remembers what the provider has said of a model. That holds whatever the breaker does meanwhile, and never ends
-- the sooner for being said again.
local function rest(limits, field, ends_at)
  if tonumber(call('HGET', limits, field) or 0) < ends_at then
    call('HSET', limits, field, ends_at)
  end
end

local function settle(token, admitted_under, effect, latency_us, period_ms, doubles, cause, charged, counts,
  rests_ms)
  local is_probe, n = holder == token, #corrections
  if call('ZADD', settled, 'NX', calls + 1, token) == 0 then
    return {'duplicate', '', generation}
  end
  if is_probe then
    call('HSET', endpoint, 'probe', '', 'probe_until_ms', 0)
    holder = ''
  end
  if effect == 'release' then
    corrections[n + 1], corrections[n + 2], corrections[n + 3] = token, 1, charged
    return {'released', '', generation}
  end
  if charged ~= counts then
    corrections[n + 1], corrections[n + 2], corrections[n + 3] = token, 0, charged - counts
  end
  calls, counted = calls + 1, true
  if calls % 256 == 0 then
    call('ZREMRANGEBYSCORE', settled, '-inf', calls - remembered)
  end

  if rests_ms > 0 then
    rest(model_limits, 'cooldown_until_ms', now + rests_ms)
  end

  -- Under one generation an open breaker is moved only by whoever holds the lease. A lease that ran out counts as held
  -- until another takes it: nothing newer is known.
  local late = admitted_under ~= generation or (open and not is_probe)
  local change, opened = '', nil
  if effect == 'success' then
    successes = successes + 1
    average_us = math.floor((7 * (average_us or latency_us) + 3 * latency_us + 5) / 10)
    if not late then
      successes_running, failures_running = successes_running + 1, 0
      if open then
        change = 'closed'
      elseif window_ms > 0 and spoiled(false, slow_us > 0 and latency_us > slow_us) then
        change = 'opened'
      end
    end
  elseif effect == 'failure' or effect == 'trip' or effect == 'trip_account' then
    failures = failures + 1
    if not late then
      successes_running, failures_running = 0, failures_running + 1
      local rate = not open and window_ms > 0 and spoiled(true, false)
      if open then
        change = 'reopened'
      elseif effect ~= 'failure' or failures_running >= threshold or rate then
        change = 'opened'
      end
    end
  elseif effect == 'throttle' then
    rest(model_limits, 'cooldown_until_ms', now + period_ms)
  elseif effect == 'not_served' then
    rest(route_limits, 'not_served_until_ms', now + period_ms)
  end
  if change == '' and effect ~= 'trip_account' and not late then
    return generation
  end
  if change ~= '' then
    become(change, period_ms, doubles, cause)
  end
  if effect == 'trip_account' and not late then
    opened = open_others(now + period_ms, cause)
  end
  return {late and 'late' or 'counted', change, generation, unpack(opened or {})}
end

local replies, tokens = {}, {}
for i = given_from + 5 * scope_count, #given, 12 do
  local reply = settle(given[i], tonumber(given[i + 1]), given[i + 2], tonumber(given[i + 3]), tonumber(given[i + 4]),
    given[i + 5] == '1', given[i + 6], tonumber(given[i + 7]), tonumber(given[i + 8]),
    tonumber(given[i + 11]))
  if type(reply) == 'number' or reply[1] ~= 'duplicate' then
    local requests_remain, tokens_remain = tonumber(given[i + 9]), tonumber(given[i + 10])
    said_requests = requests_remain >= 0 and requests_remain or said_requests
    said_tokens = tokens_remain >= 0 and tokens_remain or said_tokens
  end
  replies[#replies + 1], tokens[#tokens + 1] = reply, given[i]
end

if counted then
  call('HSET', endpoint, 'calls', calls, 'successes', successes, 'consecutive_successes', successes_running,
    unpack(average_us and {'latency_us', average_us} or {}))
  if failures > failures_before or failures_running ~= failures_running_before then
    call('HSET', endpoint, 'failures', failures, 'consecutive_failures', failures_running)
  end
end

for s = 1, scope_count do
  if given[given_from + 5 * s - 1] ~= '0' then
    call('ZREM', keys[keys_from + 2 * s - 1], unpack(tokens))
  end
end

if #corrections > 0 or said_requests >= 0 or said_tokens >= 0 then
  -- corrected is where a scope's two clocks stand after the corrections. What was taken too little is added. What was
  -- taken too much comes back only to the call that was admitted last: others have begun since, by a clock that had
  -- counted it, and a minute that holds those and not this one would see more than the limit.
  local function corrected(requests, request_us, tokens_at, token_us, last)
    for i = 1, #corrections, 3 do
      local is_last = corrections[i] == last
      if is_last then
        requests = requests - corrections[i + 1] * request_us
      end
      if is_last or corrections[i + 2] < 0 then
        tokens_at = tokens_at - corrections[i + 2] * token_us
      end
    end
    return requests, tokens_at
  end

  -- mend sets a scope's clocks right: by the corrections; and where the provider says that less remains than a burst, no
  -- more than that can begin at once.
  local function mend(clocks, request_us, request_burst_us, token_us, token_burst_us, requests_remain, tokens_remain)
    local requests_short = request_us > 0 and requests_remain >= 0 and requests_remain * request_us < request_burst_us
    local tokens_short = token_us > 0 and tokens_remain >= 0 and tokens_remain * token_us < token_burst_us
    if #corrections == 0 and not requests_short and not tokens_short then
      return
    end
    local stands = call('HMGET', clocks, 'requests_until_us', 'tokens_until_us', 'last')
    local last, raised = stands[3], false
    local requests_were, tokens_were = tonumber(stands[1] or 0), tonumber(stands[2] or 0)
    local requests_at, tokens_at = corrected(requests_were, request_us, tokens_were, token_us, last)
    local requests_least = requests_short and now_us + request_burst_us - requests_remain * request_us or 0
    local tokens_least = tokens_short and now_us + token_burst_us - tokens_remain * token_us or 0
    if requests_least > requests_at or tokens_least > tokens_at then
      requests_at, tokens_at, raised = math.max(requests_at, requests_least), math.max(tokens_at, tokens_least), true
    end
    if request_us > 0 and requests_at ~= requests_were then
      call('HSET', clocks, 'requests_until_us', string.format('%d', math.floor(requests_at)))
    end
    if token_us > 0 and tokens_at ~= tokens_were then
      call('HSET', clocks, 'tokens_until_us', string.format('%d', math.floor(tokens_at)))
    end
    if raised then
      call('HSET', clocks, 'last', '')
    end
  end

  for s = 1, scope_count do
    local arg = given_from + 5 * s - 5
    local request_us, token_us = tonumber(given[arg]), tonumber(given[arg + 2])
    if request_us > 0 or token_us > 0 then
      local about = s == said_scope
      mend(keys[keys_from + 2 * s - 2], request_us, tonumber(given[arg + 1]), token_us, tonumber(given[arg + 3]),
        about and said_requests or -1, about and said_tokens or -1)
    end
  end
end
return replies
