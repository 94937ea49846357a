-- settle_hold: give holds of one day back, each once, and add what their calls really cost to that day.
--
-- KEYS[1]  hash  {budget}:<day>       held:<scope>, spent:<scope>, told:<percent>:<scope>
-- KEYS[2]  zset  {budget}:holds       every hold, by its expiry in ms
-- KEYS[3]  hash  {budget}:<day>:cost  by `<task type> <model> <endpoint> <tenant>`: `calls cost prompt completion
--                                     maybe_calls maybe_cost`, the cost of both in billionths of a dollar
-- ARGV[1]  ms    how long the day's hashes are kept
-- ARGV[2]  int   how many entries the cost has at most; beyond it they are added up under the tenant `*`
-- ARGV[3]  int   number of scopes; the first is `all`
-- ARGV[4]  int   number of entries
-- ARGV[5..]      for each scope its name and its limit, -1 for none; for each entry its first three words and its
--                tenant; then for each hold nine:
--          text  the hold, as it is stored
--          int   its amount
--          int   the scope of its tenant, 0 for none
--          int   the scope of its task type, 0 for none
--          int   the entry of its call, 0 when no call was made
--          int   what the call cost
--          int   tokens of the prompt
--          int   tokens of the answer
--          0|1   whether it is only maybe billed
-- RETURNS  {holds, crossings}: for each hold 1, or 0 for one that does not stand any more; each crossing is {percent,
--          scope, spent, held}, amounts as text
-- CLOCK    the server's TIME, for when a crossing was told
-- WRITES   nothing for a hold that does not stand

local day, holds, cost = KEYS[1], KEYS[2], KEYS[3]
local kept_ms, most, scope_count, entry_count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local given = {unpack(ARGV, 5)}
local PER_HOLD = 9

local function text(number) return string.format('%.0f', number) end

local first = 2 * scope_count + 2 * entry_count + 1
local members = {}
for at = first, #given, PER_HOLD do members[#members + 1] = given[at] end
local stands = redis.call('ZMSCORE', holds, unpack(members))

local held, spent, entries, removed, answers, seen = {}, {}, {}, {}, {}, {}
for i, member in ipairs(members) do
  answers[i] = 0
  if stands[i] and not seen[member] then
    seen[member], answers[i] = true, 1
    removed[#removed + 1] = member
    local at = first + (i - 1) * PER_HOLD
    local amount, price = tonumber(given[at + 1]), tonumber(given[at + 5])
    for _, s in ipairs({1, tonumber(given[at + 2]), tonumber(given[at + 3])}) do
      if s > 0 then
        held[s], spent[s] = (held[s] or 0) + amount, (spent[s] or 0) + price
      end
    end
    local e, maybe = tonumber(given[at + 4]), tonumber(given[at + 8])
    if e > 0 then
      local sums = entries[e] or {0, 0, 0, 0, 0, 0}
      local call = {1, price, tonumber(given[at + 6]), tonumber(given[at + 7]), maybe, maybe * price}
      for n = 1, 6 do sums[n] = sums[n] + call[n] end
      entries[e] = sums
    end
  end
end
if #removed == 0 then return {answers, {}} end
redis.call('ZREM', holds, unpack(removed))

local fields, indices = {}, {}
for s in pairs(held) do
  indices[#indices + 1] = s
  fields[#fields + 1] = 'spent:' .. given[2 * s - 1]
  fields[#fields + 1] = 'held:' .. given[2 * s - 1]
end
local known, written, crossings = redis.call('HMGET', day, unpack(fields)), {}, {}
for n, s in ipairs(indices) do
  local name, limit = given[2 * s - 1], tonumber(given[2 * s])
  local sum, out = tonumber(known[2 * n - 1] or 0) + spent[s], tonumber(known[2 * n] or 0) - held[s]
  written[#written + 1] = fields[2 * n - 1]
  written[#written + 1] = text(sum)
  written[#written + 1] = fields[2 * n]
  written[#written + 1] = text(out)
  for _, percent in ipairs({80, 100}) do
    if limit > 0 and spent[s] > 0 and sum * 100 >= limit * percent then
      -- Told to one caller; to another when that one does not confirm it within 30 s.
      local time = redis.call('TIME')
      local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
      local field = 'told:' .. percent .. ':' .. name
      local told = redis.call('HGET', day, field)
      if not told or (told ~= 'yes' and now - tonumber(told) > 30000) then
        redis.call('HSET', day, field, text(now))
        crossings[#crossings + 1] = {percent, s, text(sum), text(out)}
      end
    end
  end
end
redis.call('HSET', day, unpack(written))
if not known[1] then redis.call('PEXPIRE', day, kept_ms) end

local room = nil
for e, sums in pairs(entries) do
  local words, tenant = given[2 * scope_count + 2 * e - 1], given[2 * scope_count + 2 * e]
  local field = words .. ' ' .. tenant
  local before = redis.call('HGET', cost, field)
  if not before then
    room = room or most - redis.call('HLEN', cost)
    if room <= 0 then
      field = words .. ' *'
      before = redis.call('HGET', cost, field)
    end
    room = room - 1
  end
  local n = 0
  for number in string.gmatch(before or '', '%d+') do
    n = n + 1
    sums[n] = sums[n] + tonumber(number)
  end
  for i = 1, 6 do sums[i] = text(sums[i]) end
  redis.call('HSET', cost, field, table.concat(sums, ' '))
  if not before then redis.call('PEXPIRE', cost, kept_ms) end
end
return {answers, crossings}
