package gate

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/internal/gather"
)

// Settlement gives a hold back, and says what its call cost.
type Settlement struct {
	Hold Hold
	// Call is nil when none was made.
	Call *CallCost
	// Guess tells that somebody else than its worker settles the hold, at its Amount, because nothing is known of what its
	// call came to. For a day a report of the worker's own goes before it.
	Guess bool
}

// CallCost is one call as a day's cost knows it.
type CallCost struct {
	TaskType, Model, Endpoint, Tenant string
	// Nanos is what it cost, in billionths of a US dollar; at worst, for one that is MaybeBilled.
	Nanos       int64
	Usage       tasks.Usage
	MaybeBilled bool
}

// entry is where the call is added up.
type entry struct{ words, tenant string }

func (c CallCost) entry() entry {
	return entry{c.TaskType + " " + c.Model + " " + c.Endpoint, c.Tenant}
}

// SendSettle settles a hold and does not wait for the answer: true, or false for a hold that does not stand any more,
// because it was settled before, and not at a Guess. It may be repeated until it succeeds, and is counted on the day of the hold.
func (b *Budget) SendSettle(settlement Settlement) *gather.Ticket[Settlement, bool] {
	return b.settles.Send(settlement.Hold.Day, settlement)
}

// Settle is SendSettle, and waits.
func (b *Budget) Settle(settlement Settlement) (bool, error) { return b.SendSettle(settlement).Wait() }

// settleAll runs settle_hold.lua for holds of one day.
func (b *Budget) settleAll(ctx context.Context, day string, settlements []Settlement) ([]bool, error) {
	scopes, entries := table[Scope]{}, table[entry]{}
	scopes.number(ScopeAll)
	holds := make([]any, 0, 10*len(settlements))
	for _, s := range settlements {
		tenant, taskType := numbers(&scopes, s.Hold.Scopes)
		holds = append(holds, s.Hold.member(), s.Hold.Amount, tenant, taskType)
		if s.Call == nil {
			holds = append(holds, 0, 0, 0, 0, 0, s.Guess)
			continue
		}
		holds = append(holds, entries.number(s.Call.entry()), s.Call.Nanos,
			s.Call.Usage.PromptTokens, s.Call.Usage.CompletionTokens, s.Call.MaybeBilled, s.Guess)
	}
	args := make([]any, 0, 4+2*len(scopes.values)+2*len(entries.values)+len(holds))
	args = append(args, milliseconds(budgetKept), mostCosts, len(scopes.values), len(entries.values))
	args = b.scopeArguments(args, scopes.values)
	for _, entry := range entries.values {
		args = append(args, entry.words, entry.tenant)
	}
	reply, err := settleHoldScript.Run(ctx, b.client, []string{
		b.keys.BudgetDay(day), b.keys.BudgetHolds(), b.keys.BudgetCost(day), b.keys.BudgetSwept(day),
	}, append(args, holds...)...).Slice()
	if err != nil {
		return nil, fmt.Errorf("settle %d holds of %s: ask Redis: %w", len(settlements), day, err)
	}
	settled, crossings, err := parseSettled(reply, len(settlements), scopes.values)
	if err != nil {
		return nil, fmt.Errorf("settle %d holds of %s: %w", len(settlements), day, err)
	}
	b.tell(ctx, day, crossings)
	return settled, nil
}

// parseSettled reads {holds, crossings}.
func parseSettled(reply []any, count int, scopes []Scope) ([]bool, []crossing, error) {
	if len(reply) != 2 {
		return nil, nil, fmt.Errorf("%w (%d values)", errReply, len(reply))
	}
	answers, ok := reply[0].([]any)
	if !ok || len(answers) != count {
		return nil, nil, fmt.Errorf("%w (%v)", errReply, reply)
	}
	settled := make([]bool, count)
	for i, answer := range answers {
		number, ok := answer.(int64)
		if !ok || number < 0 || number > 1 {
			return nil, nil, fmt.Errorf("%w (%v)", errReply, reply)
		}
		settled[i] = number == 1
	}
	crossings, err := parseCrossings(reply[1], scopes)
	return settled, crossings, err
}

// Expired lists up to so many holds whose time is over, the oldest first. Whose call was never sent is to be given
// back; whose may have been sent is to be settled at what it cost at worst. One that cannot be read is an error beside
// those that can.
func (b *Budget) Expired(ctx context.Context, most int) ([]Hold, error) {
	members, err := expiredScript.Run(ctx, b.client, []string{b.keys.BudgetHolds()}, most).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("look for expired holds in Redis: %w", err)
	}
	var holds []Hold
	var unread error
	for _, member := range members {
		hold, err := parseHold(member)
		if err != nil {
			unread = err
			continue
		}
		holds = append(holds, hold)
	}
	return holds, unread
}

const told = "yes"

const (
	longestTelling = time.Second
	tellPoll       = 10 * time.Millisecond
)

// tell writes events of what was crossed, and that they were written. One that cannot be written now is written by
// whoever crosses next, half a minute later: nobody's call waits for it.
func (b *Budget) tell(ctx context.Context, day string, crossings []crossing) {
	for _, c := range crossings {
		if c.percent == 100 {
			b.awaitTold(ctx, day, c.scope)
		}
		percent := strconv.FormatInt(c.percent, 10)
		err := events.Publish(ctx, b.client, b.keys, "budget."+percent, "scope", string(c.scope), "day", day,
			"limit_usd", formatUSD(b.limits[c.scope]), "spent_usd", formatUSD(c.spent), "held_usd", formatUSD(c.held))
		if err == nil {
			// Not written, it is told once more.
			_ = b.client.HSet(ctx, b.keys.BudgetDay(day), "told:"+percent+":"+string(c.scope), told).Err()
		}
	}
}

// awaitTold waits for another that is about to tell that most of a scope's budget is spent, so that the events come in
// their order. One that died is not waited for for long.
func (b *Budget) awaitTold(ctx context.Context, day string, scope Scope) {
	for begun := time.Now(); time.Since(begun) < longestTelling; time.Sleep(tellPoll) {
		before, err := b.client.HGet(ctx, b.keys.BudgetDay(day), "told:80:"+string(scope)).Result()
		if err != nil || before == told {
			return // there is none, too, where a single call leaves no room
		}
	}
}

func formatUSD(nanos int64) string { return strconv.FormatFloat(USD(nanos), 'f', -1, 64) }
