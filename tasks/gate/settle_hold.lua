-- settle_hold: give holds of one day back, each once, and add what their calls really cost to that day.
--
-- One that was settled for a worker which seemed to be dead, at a guess, is remembered: where that worker reports after
-- all, the guess is taken back and what it reports counts, once.
--
-- KEYS[1]  hash  {budget}:<day>       held:<scope>, spent:<scope>, told:<percent>:<scope>
-- KEYS[2]  zset  {budget}:holds       every hold, by its expiry in ms
-- KEYS[3]  hash  {budget}:<day>:cost  by `<task type> <model> <endpoint> <tenant>`: `calls cost prompt completion
--                                     maybe_calls maybe_cost`, the cost of both in billionths of a dollar
-- KEYS[4]  hash  {budget}:<day>:swept by hold: the entry of the cost that a guess was added to
-- ARGV[1]  ms    how long the day's hashes are kept
-- ARGV[2]  int   how many entries the cost has at most; beyond it they are added up under the tenant `*`
-- ARGV[3]  int   number of scopes; the first is `all`
-- ARGV[4]  int   number of entries
-- ARGV[5..]      for each scope its name and its limit, -1 for none; for each entry its first three words and its
--                tenant; then for each hold ten:
--          text  the hold, as it is stored
--          int   its amount
--          int   the scope of its tenant, 0 for none
--          int   the scope of its task type, 0 for none
--          int   the entry of its call, 0 when no call was made
--          int   what the call cost
--          int   tokens of the prompt
--          int   tokens of the answer
--          0|1   whether it is only maybe billed
--          0|1   whether it is a guess
-- RETURNS  {holds, crossings}: for each hold 1, or 0 for one that was settled before, and not at a guess; each crossing
--          is {percent, scope, spent, held}, amounts as text
-- CLOCK    the server's TIME, for when a crossing was told
-- WRITES   nothing for a hold that it answers with 0

local day, holds, cost, swept = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local kept_ms, most, scope_count, entry_count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local given = {unpack(ARGV, 5)}
local PER_HOLD, GUESS_KEPT_MS = 10, 24 * 3600 * 1000

local function text(number) return string.format('%.0f', number) end

local first = 2 * scope_count + 2 * entry_count + 1
local members = {}
for at = first, #given, PER_HOLD do members[#members + 1] = given[at] end
local stands = redis.call('ZMSCORE', holds, unpack(members))

local held, spent, entries, removed, answers, seen = {}, {}, {}, {}, {}, {}
local guesses, mended = {}, {} -- the entries of those to be remembered; those to be forgotten
for i, member in ipairs(members) do
  answers[i] = 0
  local at = first + (i - 1) * PER_HOLD
  local amount, price, guess = tonumber(given[at + 1]), tonumber(given[at + 5]), given[at + 9] == '1'
  local guessed = not stands[i] and not guess and redis.call('HGET', swept, member)
  if (stands[i] or guessed) and not seen[member] then
    seen[member], answers[i] = true, 1
    local given_back, more = amount, price
    if guessed then
      given_back, more = 0, price - amount
      mended[member] = {field = guessed, amount = amount}
    else
      removed[#removed + 1] = member
    end
    for _, s in ipairs({1, tonumber(given[at + 2]), tonumber(given[at + 3])}) do
      if s > 0 then
        held[s], spent[s] = (held[s] or 0) + given_back, (spent[s] or 0) + more
      end
    end
    local e, maybe = tonumber(given[at + 4]), tonumber(given[at + 8])
    if guess and e > 0 then guesses[member] = e end
    if e > 0 then
      local sums = entries[e] or {0, 0, 0, 0, 0, 0}
      local call = {1, price, tonumber(given[at + 6]), tonumber(given[at + 7]), maybe, maybe * price}
      for n = 1, 6 do sums[n] = sums[n] + call[n] end
      entries[e] = sums
    end
  end
end
if not next(seen) then return {answers, {}} end
if #removed > 0 then redis.call('ZREM', holds, unpack(removed)) end
for member, guess in pairs(mended) do
  local sums, n = {}, 0
  for number in string.gmatch(redis.call('HGET', cost, guess.field) or '', '%d+') do
    n = n + 1
    sums[n] = tonumber(number)
  end
  if n == 6 then
    sums[1], sums[2], sums[5], sums[6] = sums[1] - 1, sums[2] - guess.amount, sums[5] - 1, sums[6] - guess.amount
    for i = 1, 6 do sums[i] = text(sums[i]) end
    redis.call('HSET', cost, guess.field, table.concat(sums, ' '))
  end
  redis.call('HDEL', swept, member)
end

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

local room, names = nil, {}
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
  names[e] = field
end
for member, e in pairs(guesses) do
  redis.call('HSET', swept, member, names[e])
  redis.call('PEXPIRE', swept, GUESS_KEPT_MS)
end
return {answers, crossings}
