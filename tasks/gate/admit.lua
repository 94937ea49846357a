-- admit: ask for leave to make calls on one route, in their order, each all of it or nothing.
--
-- A call that the limits admit a little later may be granted now, to begin then: its place is taken.
--
-- KEYS[1]   hash  {acct:<account>}:ep:<endpoint>                 the breaker
-- KEYS[2]   hash  {acct:<account>}:limits:<model>                cooldown_until_ms
-- KEYS[3]   hash  {acct:<account>}:ep:<endpoint>:limits:<model>  not_served_until_ms
-- KEYS[4..]       for each scope that has limits two: a hash, its clocks, and a sorted set, its permits by expiry in ms,
--                 beside a member '' that is none and never expires
-- ARGV[1]   int   how many scopes have limits
-- ARGV[2]   ms    how long admission is ramped up after a recovery; 0 is not at all
-- ARGV[3]   us    horizon: how long a call may have to wait and is granted all the same; at least two slots
-- ARGV[4..]       for each scope five: requests and tokens, us for one and us of burst each, 0 us is no limit; permits,
--                 0 is no limit. Then for each call seven: its token; ms, how long the call may take; ms, how long it
--                 leaves a due probe to others; its tokens; its rank, 0 critical, 1 default, 2 bulk; us that its horizon
--                 has grown by; us, the longest wait that it takes
-- RETURNS   {generation, cause, for each call one}. Granted: 0, when it may begin at once and is no probe; otherwise
--           {wait_ms, reason, scope, probe 0|1}, so late for the reason, by the scope of that number (0 is none). Refused:
--           {reason, wait_ms, scope, ticket_ms, slot_us}, for at least wait_ms; the next ticket of that scope is for
--           ticket_ms, and takes slot_us
-- CLOCK     the server's TIME
-- WRITES    when it grants, clocks rounded up, so that they are never ahead of their calls; and, of critical and
--           default work, that there is some

local endpoint, model_limits, route_limits = KEYS[1], KEYS[2], KEYS[3]
local keys, keys_from = KEYS, 4
local scope_count, ramp_ms, horizon_us = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local given, given_from = ARGV, 4

local call, max, ceil, format = redis.call, math.max, math.ceil, string.format
local ramp_stages, pressure_us, aged_share = 8, 1000000, 10

local time = call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(now_us / 1000)

local breaker = call('HMGET', endpoint, 'state', 'until_ms', 'generation', 'probe', 'probe_until_ms',
  'latency_us', 'cause', 'ramp_until_ms', 'ramp_stage', 'ramp_used')
local open, open_until = breaker[1] == 'open', tonumber(breaker[2] or 0)
local holder, lease_until = breaker[4], tonumber(breaker[5] or 0)
local latency_us, ramp_until = tonumber(breaker[6] or 0), tonumber(breaker[8] or 0)
local ramp_stage, ramp_used = tonumber(breaker[9] or 0), tonumber(breaker[10] or 0)
local unserved_until = tonumber(call('HGET', route_limits, 'not_served_until_ms') or 0)
local rests_until = tonumber(call('HGET', model_limits, 'cooldown_until_ms') or 0)

local scopes, last = {}, false -- last: the token that was granted last
for s = 1, scope_count do
  local key, arg = keys_from + 2 * s - 2, given_from + 5 * s - 5
  local clocks, permits, most = keys[key], keys[key + 1], tonumber(given[arg + 4])
  local stands = call('HMGET', clocks, 'requests_until_us', 'tokens_until_us', 'critical_until_us', 'default_until_us')
  scopes[s] = {
    clocks = clocks, permits = permits, most = most,
    request_us = tonumber(given[arg]), request_burst_us = tonumber(given[arg + 1]),
    token_us = tonumber(given[arg + 2]), token_burst_us = tonumber(given[arg + 3]),
    requests = tonumber(stands[1] or 0), tokens = tonumber(stands[2] or 0),
    critical = tonumber(stands[3] or 0), default = tonumber(stands[4] or 0),
    used = most > 0 and call('ZCARD', permits) or 0, -- at most, see exhausted
  }
end

-- unlimited is what stands against a call beside limits: the reason that lasts longest, for before it ends the call
-- cannot be granted, and until when.
local function unlimited(token, patience_ms)
  local reason, free_at = '', now
  if unserved_until > free_at then
    reason, free_at = 'not_served', unserved_until
  end
  if open then
    if open_until > 0 and open_until + patience_ms > free_at then
      reason, free_at = 'breaker_open', open_until + patience_ms
    end
    if holder ~= token and lease_until > free_at then
      reason, free_at = 'probe_out', lease_until
    end
  elseif ramp_until > now and ramp_ms > 0 then
    local began, stage_ms = ramp_until - ramp_ms, ramp_ms / ramp_stages
    local stage = max(0, math.floor((now - began) / stage_ms))
    if stage ~= ramp_stage then
      ramp_stage, ramp_used = stage, 0
    end
    local next_at = ceil(began + (stage + 1) * stage_ms)
    if ramp_used >= 2 ^ stage and next_at > free_at then
      reason, free_at = 'ramp', next_at
    end
  end
  if rests_until > free_at then
    reason, free_at = 'cooldown', rests_until
  end
  return reason, free_at - now
end

-- start is the earliest that the clocks let a call begin, which of them says so, and what one such call takes of it.
local function start(tokens)
  local at, family, number, slot_us = now_us, '', 0, 0
  for s = 1, scope_count do
    local scope = scopes[s]
    local requests_at = scope.requests + scope.request_us - scope.request_burst_us
    if scope.request_us > 0 and requests_at > at then
      at, family, number, slot_us = requests_at, 'requests', s, scope.request_us
    end
    local cost_us = tokens * scope.token_us
    local tokens_at = scope.tokens + cost_us - scope.token_burst_us
    if scope.token_us > 0 and tokens_at > at then
      at, family, number, slot_us = tokens_at, 'tokens', s, cost_us
    end
  end
  return at, family, number, slot_us
end

-- ticket is the time of the next ticket for a rank: behind those of its own and of more urgent work.
local function ticket(scope, rank, at)
  scope.tickets = scope.tickets or call('HMGET', scope.clocks, 'ticket0_until_us', 'ticket1_until_us', 'ticket2_until_us')
  for r = 0, rank do
    at = max(at, tonumber(scope.tickets[r + 1] or 0))
  end
  return ceil((at - now_us) / 1000)
end

-- pressed tells that more urgent work than this asks a scope as well.
local function pressed(scope, rank)
  return rank > 0 and (scope.critical > now_us or (rank == 2 and scope.default > now_us))
end

-- waits tells whether a call may wait so long for a scope. Critical work may wait twice as long, so that it finds a place
-- behind whatever the others have taken. While it asks too, the horizon of default is half and that of bulk one slot; who
-- has waited long may wait as long as critical work, but only when none of the less urgent got a place within ten slots.
local function waits(scope, wait_us, slot_us, rank, grown_us, most_us)
  local whole = max(horizon_us, 2 * slot_us)
  local own = rank == 0 and 2 * whole or whole
  if pressed(scope, rank) then
    own = rank == 1 and whole / 2 or slot_us
    scope.aged = scope.aged or tonumber(call('HGET', scope.clocks, 'aged_until_us') or 0)
    if scope.aged <= now_us then
      own = math.min(2 * whole, own + grown_us)
    end
  end
  return wait_us <= math.min(own, most_us)
end

-- press notes that there is critical or default work for the limits.
local function press(rank)
  local field = rank == 0 and 'critical' or 'default'
  for s = 1, scope_count do
    local scope = scopes[s]
    local long_us = max(pressure_us, 2 * scope.request_us)
    if scope[field] < now_us + long_us / 2 then
      scope[field], scope.pressed = now_us + long_us, true
    end
  end
end

-- exhausted finds the scope that has no permit left for the token. Those that have expired, and the member that is none,
-- are told from the others only where there seems to be none left.
local function exhausted(token)
  for s = 1, scope_count do
    local scope = scopes[s]
    if scope.most > 0 and scope.used >= scope.most then
      if not scope.counted then
        scope.used, scope.counted = call('ZCOUNT', scope.permits, '(' .. now, '(inf'), true
      end
      if scope.used >= scope.most and tonumber(call('ZSCORE', scope.permits, token) or 0) <= now then
        return s
      end
    end
  end
end

-- take enters a granted call in all scopes. A member that is no permit keeps the set of a scope whose calls come one by
-- one: Redis would delete it with the last permit, and make it anew for the next, which takes longer than all else here.
local function take(token, at, tokens, rank, ends_ms)
  local ends = format('%d', ends_ms)
  for s = 1, scope_count do
    local scope = scopes[s]
    if rank > 0 and pressed(scope, rank) then
      scope.aged = at + aged_share * max(scope.request_us, tokens * scope.token_us)
      call('HSET', scope.clocks, 'aged_until_us', format('%.0f', scope.aged))
    end
    if scope.request_us > 0 then
      scope.requests = max(scope.requests, at) + scope.request_us
    end
    if scope.token_us > 0 then
      scope.tokens = max(scope.tokens, at) + tokens * scope.token_us
    end
    if scope.most > 0 then
      if scope.used == 0 and not scope.counted then
        call('ZADD', scope.permits, 'inf', '')
      end
      if call('ZADD', scope.permits, ends, token) == 1 or scope.counted then
        scope.used = scope.used + 1
      end
    end
  end
  last = token
end

local function ask(token, lease_ms, patience_ms, tokens, rank, grown_us, most_us)
  local reason, wait_ms = unlimited(token, patience_ms)
  if reason ~= '' then
    return {reason, wait_ms, 0, wait_ms, 0}
  end
  if rank < 2 then
    press(rank)
  end
  local at, family, number, slot_us = start(tokens)
  local scope = scopes[number]
  wait_ms = ceil((at - now_us) / 1000)
  if number > 0 and not waits(scope, at - now_us, slot_us, rank, grown_us, most_us) then
    return {family, wait_ms, number, ticket(scope, rank, at), ceil(slot_us)}
  end
  local short = exhausted(token)
  if short then
    -- Nobody knows when a call ends; as many end in the time that one takes as there are permits.
    slot_us = ceil(latency_us / scopes[short].most)
    wait_ms = max(500, ceil(slot_us / 1000))
    return {'permits', wait_ms, short, ticket(scopes[short], rank, now_us + wait_ms * 1000), slot_us}
  end

  local ends_ms = now + wait_ms + lease_ms
  take(token, at, tokens, rank, ends_ms)
  if not open then
    if ramp_until > now then
      ramp_used = ramp_used + 1
      call('HSET', endpoint, 'ramp_stage', ramp_stage, 'ramp_used', ramp_used)
    end
    return wait_ms == 0 and 0 or {wait_ms, family, number, 0}
  end
  -- A command that a client sends again after a broken connection finds its own lease, and leaves it as it is: the
  -- holder reckons from the first sending.
  if holder ~= token or lease_until <= now then
    holder, lease_until = token, ends_ms
    call('HSET', endpoint, 'probe', token, 'probe_until_ms', ends_ms)
    call('HINCRBY', endpoint, 'probes', 1)
  end
  return {wait_ms, family, number, 1}
end

local replies = {tonumber(breaker[3] or 0), breaker[7] or ''}
for i = given_from + 5 * scope_count, #given, 7 do
  replies[#replies + 1] = ask(given[i], tonumber(given[i + 1]), tonumber(given[i + 2]), tonumber(given[i + 3]),
    tonumber(given[i + 4]), tonumber(given[i + 5]), tonumber(given[i + 6]))
end

for s = 1, scope_count do
  local scope = scopes[s]
  if last and (scope.request_us > 0 or scope.token_us > 0) then
    call('HSET', scope.clocks, 'requests_until_us', format('%d', ceil(scope.requests)),
      'tokens_until_us', format('%d', ceil(scope.tokens)), 'last', last)
  end
  if scope.pressed then
    call('HSET', scope.clocks, 'critical_until_us', format('%.0f', scope.critical),
      'default_until_us', format('%.0f', scope.default))
  end
  if last and scope.counted then
    call('ZREMRANGEBYSCORE', scope.permits, '-inf', now)
  end
end
return replies
