-- acquire: take the leader's lease, or prolong it for its holder.
--
-- Every acquisition begins a new term; a prolongation stays in its own. The term outlives the lease.
--
-- KEYS[1]  hash  leader    holder, until (ms), term
-- ARGV[1]  text  token of the candidate
-- ARGV[2]  ms    lease
-- ARGV[3]  int   a term that the holder must be above, or 0: something has seen it, although this key has not
-- RETURNS  {leading, term}; {follows, ms until the lease ends}
-- CLOCK    the server's TIME
-- WRITES   only when it grants. Above a term only the holder is raised, nobody acquires

local leader = KEYS[1]
local token, lease_ms, floor = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local known = redis.call('HMGET', leader, 'holder', 'until', 'term')
local holder, ends, term = known[1], tonumber(known[2] or '0'), tonumber(known[3] or '0')

if holder and now < ends then
  if holder ~= token then return {'follows', string.format('%d', ends - now)} end
  if term <= floor then term = floor + 1 end
else
  if floor > 0 then return {'follows', '0'} end
  term = term + 1
end
redis.call('HSET', leader, 'holder', token, 'until', string.format('%d', now + lease_ms),
  'term', string.format('%d', term))
return {'leading', string.format('%d', term)}
