-- admit: ask for leave to make one attempt at a target, all of it or nothing.
--
-- A target whose last attempt failed, or that has never answered well, has a quarter of the permits: several that hang
-- are not to hold all that a worker can do.
--
-- Who is refused may take a ticket, which reserves nothing: it only spreads those who come back, one to a slot, which is
-- what one attempt takes of the target's permits.
--
-- KEYS[1]  hash  {webhooks:<tenant>}:t:<target>          breaker: state, failures, opens, until_ms, generation, probe,
--                probe_until_ms; rest_until_ms, ticket_until_ms, latency_ms, origin, off:<digest of a URL>
-- KEYS[2]  zset  {webhooks:<tenant>}:t:<target>:permits  by expiry
-- KEYS[3]  zset  {webhooks:<tenant>}:permits             by expiry
-- KEYS[4]  zset  {webhooks:<tenant>}:targets             by last use
-- ARGV[1]  text  token of the attempt; one that was granted before is granted again
-- ARGV[2]  text  digest of the target
-- ARGV[3]  text  digest of the URL
-- ARGV[4]  text  origin of the target, such as https://example.com:443
-- ARGV[5]  int   permits of the target
-- ARGV[6]  int   permits of the tenant
-- ARGV[7]  ms    how long a permit, and the lease of a probe, lasts at most
-- ARGV[8]  ms    how long a target is known that is not used
-- ARGV[9]  int   1 takes a ticket where it is refused; 0 is for who waits for a permit without coming back
-- RETURNS  {granted, generation, 1 for the probe of an open breaker}; {off}; {wait, reason, ms until the ticket's time, ms
--          of a slot}
-- CLOCK    the server's TIME
-- WRITES   the ticket of a refusal; the rest only when it grants

local target, permits, all, known = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, digest, url, origin = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local most, most_all, lease, keep = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local ticket = ARGV[9]

local function text(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stands = redis.call('HMGET', target, 'state', 'until_ms', 'generation', 'probe', 'probe_until_ms',
  'rest_until_ms', 'ticket_until_ms', 'latency_ms', 'off:' .. url, 'failures')
local open, open_until, generation = stands[1] == 'open', tonumber(stands[2] or 0), stands[3] or '0'
local probe, probe_until = stands[4], tonumber(stands[5] or 0)
local rest_until, ticket_until = tonumber(stands[6] or 0), tonumber(stands[7] or 0)
local latency = tonumber(stands[8] or 100) -- of one that is not known: too long a guess would spread tickets too far
if stands[9] then return {'off'} end
local slot = math.max(1, math.min(2000, math.ceil(latency / most)))
if not stands[8] or tonumber(stands[10] or 0) > 0 then most = math.ceil(most / 4) end

redis.call('ZREMRANGEBYSCORE', permits, '-inf', now)
redis.call('ZREMRANGEBYSCORE', all, '-inf', now)
local again = redis.call('ZSCORE', permits, token)
local reason, at = '', now
if rest_until > now then
  reason, at = 'target_rests', rest_until
end
if open and open_until > at then
  reason, at = 'breaker_open', open_until
elseif open and probe and probe ~= token and probe_until > at then
  reason, at = 'probe_out', probe_until
end
if reason == '' and not again then
  if redis.call('ZCARD', permits) >= most then
    reason, at = 'target_busy', now + latency
  elseif redis.call('ZCARD', all) >= most_all then
    reason, at = 'tenant_busy', now + latency
  end
end
if reason ~= '' then
  if ticket == '1' then
    at = math.max(at, ticket_until)
    redis.call('HSET', target, 'ticket_until_ms', text(at + slot), 'origin', origin)
    redis.call('ZADD', known, now, digest)
  end
  return {'wait', reason, text(at - now), text(slot)}
end

redis.call('ZADD', permits, now + lease, token)
redis.call('ZADD', all, now + lease, token)
redis.call('PEXPIRE', permits, lease)
redis.call('PEXPIRE', all, lease)
redis.call('ZADD', known, now, digest)
redis.call('ZREMRANGEBYSCORE', known, '-inf', now - keep)
redis.call('HSET', target, 'origin', origin)
if open then redis.call('HSET', target, 'probe', token, 'probe_until_ms', text(now + lease)) end
return {'granted', generation, open and '1' or '0'}
