-- report: how members stand. Each report counts once, whatever their order.
--
-- KEYS[1]  hash     {batch:<id>}
-- KEYS[2]  string   {batch:<id>}:members   two bytes for each: state, run
-- KEYS[3]  channel  {batch:<id>}:done
-- ARGV[1]  ms       how long a batch is kept that ends with it
-- ARGV[2]  ms       the deadline, since the epoch, of a batch that had ended and goes on; 0 leaves it
-- EACH     report takes six arguments behind them, as written here for the first
-- ARGV[3]  int      number of the member
-- ARGV[4]  int      run, 1 to 255; 0 for a member that was never enqueued
-- ARGV[5]  char     state: o, s, f, c or x
-- ARGV[6]  nanousd  what the run cost
-- ARGV[7]  int      prompt tokens of its answer
-- ARGV[8]  int      completion tokens of its answer
-- RETURNS  {ok, status, opened | ended | ''}: what the batch has become by it; {not_found}
-- CLOCK    the server's TIME, for finalizing_at and the time of the end
-- WRITES   only what is new

local batch, members, done = KEYS[1], KEYS[2], KEYS[3]
local given, keep, deadline = ARGV, ARGV[1], ARGV[2]
local counted = {s = 'succeeded', f = 'failed', c = 'cancelled', x = 'expired'}

local known = redis.call('HMGET', batch, 'status', 'total', 'kind', 'succeeded', 'failed', 'cancelled', 'expired')
local status, total, kind = known[1], tonumber(known[2] or '0'), known[3]
if not status then return {'not_found'} end
local counts = {
  succeeded = tonumber(known[4] or '0'), failed = tonumber(known[5] or '0'),
  cancelled = tonumber(known[6] or '0'), expired = tonumber(known[7] or '0'),
}

local changed, cost, prompt, completion = false, 0, 0, 0
for i = 3, #given, 6 do
  local at, run, state = 2 * tonumber(given[i]), tonumber(given[i + 1]), given[i + 2]
  local stored = redis.call('GETRANGE', members, at, at + 1)
  local had, had_run = string.sub(stored, 1, 1), string.byte(stored, 2) or 0
  local open = had == 'o' or not counted[had]
  -- One that was never enqueued may be opened and ended any number of times.
  local fresh = run > had_run or (run == had_run and open and state ~= 'o') or (run == 0 and had_run == 0 and not open and state == 'o')
  if fresh and at < 2 * total then
    redis.call('SETRANGE', members, at, state .. string.char(run))
    if counted[had] then counts[counted[had]] = counts[counted[had]] - 1 end
    if counted[state] then counts[counted[state]] = counts[counted[state]] + 1 end
    cost, prompt, completion = cost + given[i + 3], prompt + given[i + 4], completion + given[i + 5]
    changed = true
  end
end
if not changed then return {'ok', status, ''} end

local fields, became = {}, ''
local function set(name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
local sum = 0
for name, count in pairs(counts) do
  set(name, string.format('%d', count))
  sum = sum + count
end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local ended = {completed = true, expired = true, cancelled = true}
local stood = status
if sum < total and (ended[status] or status == 'finalizing') then
  status, became = 'in_progress', 'opened'
  redis.call('HDEL', batch, 'finalizing_at', 'completed_at', 'expired_at', 'cancelling_at', 'cancelled_at')
  if deadline ~= '0' then set('deadline', deadline) end
elseif sum >= total and (status == 'in_progress' or status == 'cancelling') then
  set('finalizing_at', now)
  if kind == 'run' then
    if status == 'cancelling' then
      status = 'cancelled'
    elseif counts.expired > 0 then
      status = 'expired'
    else
      status = 'completed'
    end
    set(status .. '_at', now)
    became = 'ended'
  elseif status == 'in_progress' then
    status = 'finalizing'
  end
end
set('status', status)
redis.call('HSET', batch, unpack(fields))
if cost ~= 0 then redis.call('HINCRBY', batch, 'cost_nano', string.format('%.0f', cost)) end
if prompt ~= 0 then redis.call('HINCRBY', batch, 'prompt_tokens', string.format('%.0f', prompt)) end
if completion ~= 0 then redis.call('HINCRBY', batch, 'completion_tokens', string.format('%.0f', completion)) end
if became == 'opened' then
  redis.call('PERSIST', batch)
  redis.call('PERSIST', members)
elseif became == 'ended' then
  redis.call('PEXPIRE', batch, keep)
  redis.call('PEXPIRE', members, keep)
end
if status ~= stood then redis.call('PUBLISH', done, status) end
return {'ok', status, became}
