-- ticket: take a place in the line before a limit, for a call that goes back to the queue.
--
-- A ticket reserves nothing. It only spreads those who come back, one to a slot.
--
-- KEYS[1]  hash  the clocks of the scope that refused: ticket0_until_us, ticket1_until_us, ticket2_until_us
-- ARGV[1]  int   rank of the call: 0 critical, 1 default, 2 bulk. It stands behind those of its own and of more urgent work
-- ARGV[2]  us    the wait that the refusal named
-- ARGV[3]  us    the slot: what one such call takes of the limit
-- RETURNS  {ms until the ticket's time}
-- CLOCK    the server's TIME
-- WRITES   always: the time of the rank's next ticket

local clocks = KEYS[1]
local rank, wait_us, slot_us = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local at = now_us + wait_us
for r, taken in ipairs(redis.call('HMGET', clocks, 'ticket0_until_us', 'ticket1_until_us', 'ticket2_until_us')) do
  if r <= rank + 1 then
    at = math.max(at, tonumber(taken or 0))
  end
end
redis.call('HSET', clocks, 'ticket' .. rank .. '_until_us', string.format('%.0f', at + slot_us))
return {math.ceil((at - now_us) / 1000)}
