-- health: record what came of one health probe of an endpoint, once for each tick.
--
-- So many in a row that failed or took longer than the threshold order the endpoint behind the others; as many good ones
-- bring it back. A good one brings the half-open state of an open breaker forward, once for each trip: where the call that
-- follows fails, lists of models say nothing about calls, and the breaker's own time holds. It never closes a breaker,
-- and leaves one alone that somebody opened by hand.
--
-- KEYS[1]  hash  {acct:<account>}:ep:<endpoint>:health  the last health probe, and what follows from those before
-- KEYS[2]  hash  {acct:<account>}:ep:<endpoint>         the breaker
-- ARGV[1]  ms    tick that the health probe was made for
-- ARGV[2]  text  effect: success, failure, or ignore, which says nothing about the endpoint
-- ARGV[3]  int   HTTP status; 0 when no answer came
-- ARGV[4]  text  class of the failure; empty for a success
-- ARGV[5]  us    latency
-- ARGV[6]  us    what a health probe may take; 0 is any time
-- ARGV[7]  int   how many in a row it takes
-- ARGV[8]  ms    how long all of it is kept when no further one comes
-- RETURNS  {recorded|repeated, behind 0|1, change, half-open state brought forward 0|1}; change is '', behind or back
-- CLOCK    the server's TIME
-- WRITES   nothing for a tick that is not later than the last; of the breaker until_ms alone, and only to now

local health, endpoint = KEYS[1], KEYS[2]
local tick, effect, status, class = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local latency_us, threshold_us = tonumber(ARGV[5]), tonumber(ARGV[6])
local run, keep_ms = tonumber(ARGV[7]), tonumber(ARGV[8])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local known = redis.call('HMGET', health, 'tick_ms', 'bad_running', 'good_running', 'behind', 'forwarded_trip')
local last, behind = tonumber(known[1] or 0), known[4] == '1'
local bad, good = tonumber(known[2] or 0), tonumber(known[3] or 0)

-- A last tick that is still to come is from before the server's clock was set back.
if tick <= last and last <= now then
  return {'repeated', behind and 1 or 0, '', 0}
end

local slow = threshold_us > 0 and latency_us > threshold_us
local well = effect == 'success' and not slow
if well then
  bad, good = 0, good + 1
elseif effect ~= 'ignore' then
  bad, good = bad + 1, 0
end
local change = ''
if not behind and bad >= run then
  behind, change = true, 'behind'
elseif behind and good >= run then
  behind, change = false, 'back'
end
redis.call('HSET', health, 'tick_ms', tick, 'at_ms', now, 'status', status, 'class', class, 'latency_us', latency_us,
  'slow', slow and 1 or 0, 'bad_running', bad, 'good_running', good, 'behind', behind and 1 or 0)

local forwarded = 0
if well then
  local breaker = redis.call('HMGET', endpoint, 'state', 'until_ms', 'generation', 'forced_generation', 'trips')
  local trip = breaker[5] or '0'
  if breaker[1] == 'open' and tonumber(breaker[2] or 0) > now and breaker[4] ~= breaker[3] and trip ~= known[5] then
    redis.call('HSET', endpoint, 'until_ms', now)
    redis.call('HSET', health, 'forwarded_trip', trip)
    forwarded = 1
  end
end
redis.call('PEXPIRE', health, keep_ms)
return {'recorded', behind and 1 or 0, change, forwarded}
