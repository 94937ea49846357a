-- tenants_take: take from what a tenant may have in 60 s, all that is asked for or nothing of it.
--
-- KEYS[1]  hash  {tenant:<name>}:requests or :jobs    what was taken in each second
-- ARGV[1]  int   limit
-- ARGV[2]  int   how many are asked for, 1 or more
-- RETURNS  {granted 0|1, how many are left, ms until all of the limit is free again, ms until as many as were asked for
--          are, or -1 if they are more than the limit}
-- CLOCK    the server's TIME
-- WRITES   only when it grants; the key expires with its last second

local taken_key = KEYS[1]
local limit, asked = tonumber(ARGV[1]), tonumber(ARGV[2])

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local second = math.floor(now_ms / 1000)

-- What was taken within a second counts until its last millisecond is 60 s old: no 60 s see more than the limit.
local kept, gone, taken = {}, {}, 0
local stored = redis.call('HGETALL', taken_key)
for i = 1, #stored, 2 do
  local at, count = tonumber(stored[i]), tonumber(stored[i + 1])
  if at + 61 <= second then
    gone[#gone + 1] = stored[i]
  else
    kept[#kept + 1] = {at, count}
    taken = taken + count
  end
end
table.sort(kept, function(a, b) return a[1] < b[1] end)

local function free_in(at) return (at + 61) * 1000 - now_ms end

if taken + asked <= limit then
  redis.call('HINCRBY', taken_key, second, asked)
  redis.call('PEXPIRE', taken_key, 62000)
  if #gone > 0 then redis.call('HDEL', taken_key, unpack(gone)) end
  return {1, limit - taken - asked, free_in(second), 0}
end

local wait = -1
if asked <= limit then
  local still = taken
  for i = 1, #kept do
    still = still - kept[i][2]
    if still + asked <= limit then
      wait = free_in(kept[i][1])
      break
    end
  end
end
local all = 0
if #kept > 0 then all = free_in(kept[#kept][1]) end
return {0, math.max(limit - taken, 0), all, wait}
