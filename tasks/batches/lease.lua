-- lease: take a batch to work on it, or keep it.
--
-- KEYS[1]  hash  {batch:<id>}
-- ARGV[1]  text  who
-- ARGV[2]  ms    for how long; 0 leaves it
-- RETURNS  {taken}; {held}: somebody else has it; {left}; {not_found}
-- CLOCK    the server's TIME
-- WRITES   unless somebody else has it

local batch = KEYS[1]
local who, keep = ARGV[1], tonumber(ARGV[2])

local status, owner, expiry = unpack(redis.call('HMGET', batch, 'status', 'owner', 'owner_until'))
if not status then return {'not_found'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if owner and owner ~= who and tonumber(expiry) > now then return {'held'} end
if keep == 0 then
  if owner == who then redis.call('HDEL', batch, 'owner', 'owner_until') end
  return {'left'}
end
redis.call('HSET', batch, 'owner', who, 'owner_until', string.format('%d', now + keep))
return {'taken'}
