-- ticket: take a place in the line before a limit, for a call that goes back to the queue.
--
-- A ticket reserves nothing. It only spreads those who come back, one to a slot.
--
-- KEYS[1]  hash  the clocks of the scope that refused
-- ARGV[1]  us    the wait that the refusal named
-- ARGV[2]  us    the slot: what one such call takes of the limit
-- RETURNS  {ms until the ticket's time}
-- CLOCK    the server's TIME
-- WRITES   always: ticket_until_us

local clocks = KEYS[1]
local wait_us, slot_us = tonumber(ARGV[1]), tonumber(ARGV[2])

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local at = math.max(tonumber(redis.call('HGET', clocks, 'ticket_until_us') or 0), now_us + wait_us)
redis.call('HSET', clocks, 'ticket_until_us', string.format('%.0f', at + slot_us))
return {math.ceil((at - now_us) / 1000)}
