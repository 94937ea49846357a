-- report: give the permit of an attempt back, and tell the target's breaker what came of it.
--
-- Each attempt counts once: with its permit. What it says of the breaker counts only if that has not changed since.
--
-- KEYS[1]  hash  {webhooks:<tenant>}:t:<target>
-- KEYS[2]  zset  {webhooks:<tenant>}:t:<target>:permits
-- KEYS[3]  zset  {webhooks:<tenant>}:permits
-- KEYS[4]  list  {webhooks:<tenant>}:t:<target>:recent
-- ARGV[1]  text  token of the attempt
-- ARGV[2]  int   generation of the breaker at which it was granted
-- ARGV[3]  text  success, failure, or none, which says nothing of the target
-- ARGV[4]  ms    latency of an answer; -1 is none
-- ARGV[5]  int   failures in a row that open the breaker
-- ARGV[6]  ms    how long it stays open at first, doubling
-- ARGV[7]  ms    how long at most
-- ARGV[8]  ms    how long the target asked to be left alone; 0 is not
-- ARGV[9]  text  digest of a URL to switch off, or empty
-- ARGV[10] json  the attempt, for the list of the last ones, or empty
-- ARGV[11] int   how many of them are kept
-- ARGV[12] ms    how long a target is known that is not used
-- RETURNS  {opened | closed | '', ms for which it is open, 1 when the URL was not off before}
-- CLOCK    the server's TIME
-- WRITES   always

local target, permits, all, recent = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, generation, effect, latency = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local threshold, base, cap = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local rest, off = tonumber(ARGV[8]), ARGV[9]
local attempt, kept, keep = ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])

local function text(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stands = redis.call('HMGET', target, 'state', 'failures', 'opens', 'generation', 'probe', 'rest_until_ms', 'latency_ms')
local open, failures, opens = stands[1] == 'open', tonumber(stands[2] or 0), tonumber(stands[3] or 0)
local current, probing = (stands[4] or '0') == generation, stands[5] == token

if rest > 0 and now + rest > tonumber(stands[6] or 0) then
  redis.call('HSET', target, 'rest_until_ms', text(now + rest))
end
local switched = '0'
if off ~= '' and redis.call('HSETNX', target, 'off:' .. off, text(now)) == 1 then
  redis.call('HINCRBY', target, 'offs', 1)
  switched = '1'
end
local held = redis.call('ZREM', permits, token) == 1
redis.call('ZREM', all, token)

local became, lasts = '', 0
if held then
  if attempt ~= '' then
    redis.call('LPUSH', recent, attempt)
    redis.call('LTRIM', recent, 0, kept - 1)
    redis.call('PEXPIRE', recent, keep)
    redis.call('HINCRBY', target, effect == 'success' and 'delivered' or 'failed', 1)
  end
  if effect == 'success' and latency >= 0 then
    local smooth = latency
    if stands[7] then smooth = tonumber(stands[7]) + (latency - tonumber(stands[7])) * 0.2 end
    redis.call('HSET', target, 'latency_ms', text(smooth))
  end
  if current and effect == 'success' then
    if open and probing then
      redis.call('HSET', target, 'state', 'closed', 'opens', '0', 'failures', '0')
      redis.call('HINCRBY', target, 'generation', 1)
      became = 'closed'
    elseif failures > 0 and not open then
      redis.call('HSET', target, 'failures', '0')
    end
  elseif current and effect == 'failure' and (not open or probing) then
    failures = failures + 1
    redis.call('HSET', target, 'failures', text(failures))
    if open or failures >= threshold then
      lasts = math.min(cap, base * 2 ^ math.min(opens, 20))
      redis.call('HSET', target, 'state', 'open', 'opens', text(opens + 1), 'until_ms', text(now + lasts))
      redis.call('HINCRBY', target, 'generation', 1)
      became = 'opened'
    end
  end
end
if probing then redis.call('HDEL', target, 'probe', 'probe_until_ms') end
-- A target with a URL that is off is known until that is switched on again.
if tonumber(redis.call('HGET', target, 'offs') or 0) > 0 then
  redis.call('PERSIST', target)
else
  redis.call('PEXPIRE', target, keep)
end
return {became, text(lasts), switched}
