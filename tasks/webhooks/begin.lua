-- begin: write down that an attempt is about to be made.
--
-- An attempt whose end was never written stays in the history as open; it may have arrived, and counts.
--
-- KEYS[1]  hash  {webhook:<id>}
-- ARGV[1]  int   cycle that the attempt belongs to
-- ARGV[2]  ms    how long the attempt may take: before that no other one begins
-- ARGV[3]  int   how many attempts are kept in the history
-- RETURNS  {ok, number of the attempt, tries in this cycle}; {open, ms until the one that is out has ended}; {stale};
--          {ended, the state that stands}; {not_found}
-- CLOCK    the server's TIME
-- WRITES   only when it answers ok

local webhook = KEYS[1]
local cycle, lease, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local known = redis.call('HMGET', webhook, 'state', 'cycle', 'open', 'open_until')
if not known[1] then return {'not_found'} end
if known[2] ~= cycle then return {'stale', known[2]} end
if known[1] ~= 'pending' then return {'ended', known[1]} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if known[3] and tonumber(known[4]) > now then
  return {'open', string.format('%d', tonumber(known[4]) - now)}
end
local number = redis.call('HINCRBY', webhook, 'attempts', 1)
local tries = redis.call('HINCRBY', webhook, 'tries', 1)
redis.call('HSET', webhook, 'open', string.format('%d', number), 'open_until', string.format('%d', now + lease),
  'a:' .. string.format('%d', number), string.format('{"number":%d,"at_ms":%.0f,"error":"open"}', number, now))
redis.call('HDEL', webhook, 'waiting', 'a:' .. string.format('%d', number - kept))
return {'ok', string.format('%d', number), string.format('%d', tries)}
