-- admit: ask for leave to make one call on a route, all of it or nothing.
--
-- KEYS[1]  hash  {acct:<account>}:ep:<endpoint>                 state, until_ms, generation, probe, probe_until_ms, probes
-- KEYS[2]  hash  {acct:<account>}:limits:<model>                cooldown_until_ms
-- KEYS[3]  hash  {acct:<account>}:ep:<endpoint>:limits:<model>  not_served_until_ms
-- ARGV[1]  text  token of the attempt, its alone
-- ARGV[2]  ms    how long a probe lease lasts
-- RETURNS  {granted 0|1, reason, retry_in_ms, generation, probe 0|1}; reason is '' when granted
-- CLOCK    the server's TIME
-- WRITES   only when it grants a probe: the lease and its count

local endpoint, model_limits, route_limits = KEYS[1], KEYS[2], KEYS[3]
local token, lease_ms = ARGV[1], tonumber(ARGV[2])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local breaker = redis.call('HMGET', endpoint, 'state', 'until_ms', 'generation', 'probe', 'probe_until_ms')
local open = breaker[1] == 'open'
local generation = tonumber(breaker[3] or 0)
local holder, lease_until = breaker[4], tonumber(breaker[5] or 0)

-- Of several refusals the one that lasts longest is named: before it ends the call cannot be granted.
local reason, free_at = '', now
local function wait(why, at)
  if at > free_at then
    reason, free_at = why, at
  end
end

wait('not_served', tonumber(redis.call('HGET', route_limits, 'not_served_until_ms') or 0))
if open then
  wait('breaker_open', tonumber(breaker[2] or 0))
  if holder ~= token then
    wait('probe_out', lease_until)
  end
end
wait('cooldown', tonumber(redis.call('HGET', model_limits, 'cooldown_until_ms') or 0))

if reason ~= '' then
  return {0, reason, free_at - now, generation, 0}
end
if not open then
  return {1, '', 0, generation, 0}
end

-- A command that a client sends again after a broken connection finds its own lease, and leaves it as it is: the
-- holder reckons from the first sending.
if holder ~= token or lease_until <= now then
  redis.call('HSET', endpoint, 'probe', token, 'probe_until_ms', now + lease_ms)
  redis.call('HINCRBY', endpoint, 'probes', 1)
end
return {1, '', 0, generation, 1}
