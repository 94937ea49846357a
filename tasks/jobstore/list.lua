-- list: read a part of a set of the index, the highest scores first, from behind a place on.
--
-- KEYS[1]  zset  {idx:<n>}:open, :ended or :dead
-- ARGV[1]  ms    score of the place
-- ARGV[2]  text  member of the place, or empty: behind all of that score
-- ARGV[3]  int   how many members at most
-- RETURNS  {member, score, member, score, ...}; of one score the greatest members first, by their bytes
-- CLOCK    none
-- WRITES   nothing

local set = KEYS[1]
local score, member, count = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- Lua compares texts by the server's locale, sorted sets by bytes.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local low = redis.call('ZCOUNT', set, '(' .. score, '+inf')
local high = low + redis.call('ZCOUNT', set, score, score)
while low < high do
  local middle = math.floor((low + high) / 2)
  if less(redis.call('ZREVRANGE', set, middle, middle)[1], member) then high = middle else low = middle + 1 end
end
return redis.call('ZREVRANGE', set, low, low + count - 1, 'WITHSCORES')
