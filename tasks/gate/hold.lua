-- hold: reserve what calls cost at worst, each in all that limits it or in nothing, in their order.
--
-- KEYS[1]  hash  {budget}:<day>       held:<scope>, spent:<scope>, told:<percent>:<scope>
-- KEYS[2]  zset  {budget}:holds       every hold, by its expiry in ms
-- KEYS[3]  hash  {budget}:<day>:cost  read only for a scope that is new on this day
-- ARGV[1]  ms    the day's beginning
-- ARGV[2]  ms    its end
-- ARGV[3]  ms    how long the day's hash is kept
-- ARGV[4]  int   number of scopes; the first is `all`
-- ARGV[5..]      for each scope its name and its limit, -1 for none; then for each call seven:
--          text  the hold, as it is stored
--          int   its amount
--          ms    how long it lasts
--          int   the scope of its tenant, 0 for none
--          int   the scope of its task type, 0 for none
--          text  the hold that it replaces, or empty
--          int   the amount of that
-- RETURNS  {now_ms} when it is another day; else {now_ms, calls, crossings}: for each call {1}, or {0, scope, spent,
--          held} with the scope that has no room; each crossing is {percent, scope, spent, held}, amounts as text
-- CLOCK    the server's TIME
-- WRITES   nothing for what is refused, but that its scope was told to be exhausted. A hold that stands is answered
--          as before; it lasts the longer of both times

local day, holds, cost = KEYS[1], KEYS[2], KEYS[3]
local begins, ends, kept_ms, count = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local given = {unpack(ARGV, 5)}
local PER_CALL = 7

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if now < begins or now >= ends then return {now} end

local function text(number) return string.format('%.0f', number) end

-- A scope that got its limit in mid-day begins with what its calls have cost on this day.
local function spent_before(scope)
  local kind, name = string.match(scope, '^(%a+):?(.*)$')
  local entries, sum = redis.call('HGETALL', cost), 0
  for i = 1, #entries, 2 do
    local task_type, tenant = string.match(entries[i], '^(%S*) %S* %S* (%S*)$')
    if kind == 'all' or (kind == 'tenant' and tenant == name) or (kind == 'type' and task_type == name) then
      sum = sum + tonumber(string.match(entries[i + 1], '^%d+ (%d+)'))
    end
  end
  return sum
end

local scopes, fields = {}, {}
for i = 1, count do
  local name = given[2 * i - 1]
  scopes[i] = {name = name, limit = tonumber(given[2 * i])}
  fields[#fields + 1] = 'spent:' .. name
  fields[#fields + 1] = 'held:' .. name
end
local known = redis.call('HMGET', day, unpack(fields))
for i, scope in ipairs(scopes) do
  scope.spent = known[2 * i - 1] and tonumber(known[2 * i - 1]) or spent_before(scope.name)
  scope.held = tonumber(known[2 * i] or 0)
end

local members, old = {}, {}
for at = 2 * count + 1, #given, PER_CALL do
  members[#members + 1] = given[at]
  old[#old + 1] = given[at + 5] ~= '' and given[at + 5] or given[at]
end
local scores, stands = redis.call('ZMSCORE', holds, unpack(members)), {}
for i, member in ipairs(members) do stands[member] = scores[i] end
local replaceable = redis.call('ZMSCORE', holds, unpack(old))

local calls, added, removed, exhausted = {}, {}, {}, {}
for i, member in ipairs(members) do
  local at = 2 * count + 1 + (i - 1) * PER_CALL
  local amount, expires = tonumber(given[at + 1]), now + tonumber(given[at + 2])
  local mine = {1, tonumber(given[at + 3]), tonumber(given[at + 4])}
  local replaced = given[at + 5]
  local more = amount
  if replaced ~= '' and replaceable[i] then more = amount - tonumber(given[at + 6]) end

  if stands[member] then
    calls[i] = {1}
    added[#added + 1] = text(math.max(expires, tonumber(stands[member])))
    added[#added + 1] = member
  else
    for _, s in ipairs(mine) do
      local scope = scopes[s]
      if scope and scope.limit >= 0 and more > 0 and scope.spent + scope.held + more > scope.limit and not calls[i] then
        calls[i] = {0, s, text(scope.spent), text(scope.held)}
        if scope.spent + amount > scope.limit then exhausted[s] = true end
      end
    end
    if not calls[i] then
      calls[i] = {1}
      stands[member] = text(expires)
      for _, s in ipairs(mine) do
        if scopes[s] then
          scopes[s].held, scopes[s].changed = scopes[s].held + more, true
        end
      end
      added[#added + 1] = text(expires)
      added[#added + 1] = member
      if replaced ~= '' and replaceable[i] then removed[#removed + 1] = replaced end
    end
  end
end

local written, crossings = {}, {}
for i, scope in ipairs(scopes) do
  if scope.changed then
    written[#written + 1] = 'spent:' .. scope.name
    written[#written + 1] = text(scope.spent)
    written[#written + 1] = 'held:' .. scope.name
    written[#written + 1] = text(scope.held)
  end
  if exhausted[i] then
    -- Told to one caller; to another when that one does not confirm it within 30 s.
    local field = 'told:100:' .. scope.name
    local told = redis.call('HGET', day, field)
    if not told or (told ~= 'yes' and now - tonumber(told) > 30000) then
      redis.call('HSET', day, field, text(now))
      crossings[#crossings + 1] = {100, i, text(scope.spent), text(scope.held)}
    end
  end
end
if #removed > 0 then redis.call('ZREM', holds, unpack(removed)) end
if #added > 0 then redis.call('ZADD', holds, unpack(added)) end
if #written > 0 then redis.call('HSET', day, unpack(written)) end
if not known[1] then redis.call('PEXPIRE', day, kept_ms) end
return {now, calls, crossings}
