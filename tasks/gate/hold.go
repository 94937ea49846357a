package gate

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/internal/gather"
)

// Hold is what is reserved for one call: it belongs to the day on which it was taken, and is settled once.
type Hold struct {
	// Token is the call's alone.
	Token string
	Job   string
	// Day is that of the budget, YYYY-MM-DD.
	Day string
	// Amount is in billionths of a US dollar.
	Amount int64
	// Scopes are those in which it is held, ScopeAll first.
	Scopes []Scope
	// Until is when it expires, by this process's clock and rather too early than too late: by then the call has to end,
	// for the hold may be taken for that of a call which nobody will report. Zero for one that was read from Redis.
	Until time.Time
}

// Lasts says whether the hold outlives a call that begins now and ends at a time at the latest.
func (h *Hold) Lasts(until time.Time) bool { return until.Before(h.Until) }

// HoldRequest asks for a hold.
type HoldRequest struct {
	// Token is the call's alone, at most a few dozen bytes without spaces. A request that is sent again with the same
	// token, before it is settled, is answered with the same hold.
	Token string
	// Job, Tenant and TaskType are the call's; a job without a task type has an empty one.
	Job, Tenant, TaskType string
	// Amount is what the call costs at worst: see Nanos.
	Amount int64
	// Lease is how long the hold lasts, at least 10ms: longer than the call.
	Lease time.Duration
	// Replaces is a hold of the same job whose call was not made. It is given back when, and only when, the new one is
	// taken.
	Replaces *Hold

	scopes []Scope
	asked  time.Time
}

// Exhausted says which scope had no room for a call, in billionths of a US dollar.
type Exhausted struct {
	Scope                      Scope
	Limit, Spent, Held, Amount int64
	// NextDay is how long it is until the next day begins.
	NextDay time.Duration
}

// Passing tells that only calls which are out stand in the way: when they cost less than was held for them, there is
// room on the same day.
func (e Exhausted) Passing() bool { return e.Spent+e.Amount <= e.Limit }

// HoldAnswer is a hold, or why there is none.
type HoldAnswer struct {
	Hold      *Hold
	Exhausted *Exhausted
}

// PendingHold is a request that is on its way.
type PendingHold struct {
	budget  *Budget
	request HoldRequest
	ticket  *gather.Ticket[HoldRequest, HoldAnswer]
	err     error
}

// SendHold asks for a hold in all scopes of the call or in none, and does not wait for the answer. Requests of the same
// time travel together and are judged one by one.
func (b *Budget) SendHold(request HoldRequest) *PendingHold {
	pending := &PendingHold{budget: b, request: request}
	switch {
	case request.Token == "" || strings.ContainsRune(request.Token, ' '):
		pending.err = fmt.Errorf("hold for job %s: the call needs a token without spaces, got %q", request.Job, request.Token)
	case request.Lease < 10*time.Millisecond:
		pending.err = fmt.Errorf("hold for job %s: it must last at least 10ms, got %s", request.Job, request.Lease)
	case request.Amount < 0 || request.Amount > mostNanos:
		pending.err = fmt.Errorf("hold for job %s: the amount must be 0 to 1e15, got %d", request.Job, request.Amount)
	default:
		request.scopes, request.asked = b.scopes(request.Tenant, request.TaskType), time.Now()
		pending.ticket = b.holds.Send(struct{}{}, request)
	}
	return pending
}

// Wait returns the answer. After an error the hold may have been taken: it expires by itself.
func (p *PendingHold) Wait() (HoldAnswer, error) {
	if p.err != nil {
		return HoldAnswer{}, p.err
	}
	answer, err := p.ticket.Wait()
	if old := p.request.Replaces; err == nil && answer.Hold != nil && old != nil && old.Day != answer.Hold.Day {
		// The day has changed between the two: the script of the new one could not touch the old one.
		_, err = p.budget.SendSettle(Settlement{Hold: *old}).Wait()
	}
	return answer, err
}

// Hold is SendHold and Wait.
func (b *Budget) Hold(request HoldRequest) (HoldAnswer, error) { return b.SendHold(request).Wait() }

// member is the hold as it is stored: all that is needed to give it back.
func (h *Hold) member() string {
	var text strings.Builder
	text.WriteString(h.Token)
	for _, word := range []string{h.Day, strconv.FormatInt(h.Amount, 10), h.Job} {
		text.WriteByte(' ')
		text.WriteString(word)
	}
	for _, scope := range h.Scopes {
		text.WriteByte(' ')
		text.WriteString(string(scope))
	}
	return text.String()
}

// parseHold reads a member.
func parseHold(member string) (Hold, error) {
	words := strings.Split(member, " ")
	if len(words) < 5 {
		return Hold{}, fmt.Errorf("a hold in Redis cannot be read: it has %d words", len(words))
	}
	amount, err := parseAmount(words[2])
	if err != nil {
		return Hold{}, err
	}
	hold := Hold{Token: words[0], Day: words[1], Amount: amount, Job: words[3]}
	for _, scope := range words[4:] {
		hold.Scopes = append(hold.Scopes, Scope(scope))
	}
	return hold, nil
}

func parseAmount(text string) (int64, error) {
	amount, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w (the amount %q)", errReply, text)
	}
	return amount, nil
}

// holdAll asks for several holds at once, on the day that it is for Redis.
func (b *Budget) holdAll(ctx context.Context, asked []HoldRequest) ([]HoldAnswer, error) {
	for range 3 {
		day := b.today()
		answers, now, err := b.holdOn(ctx, day.Name, day.Begins, day.Ends, asked)
		if err != nil || answers != nil {
			return answers, err
		}
		b.ahead.Store(int64(time.Until(now)))
	}
	return nil, fmt.Errorf("hold for %d calls: Redis's clock leapt from one day to another; is it set by NTP?", len(asked))
}

// holdOn runs hold.lua for one day. It returns no answers when it is another day by Redis's clock, which it also
// returns.
func (b *Budget) holdOn(ctx context.Context, day string, begins, ends time.Time, asked []HoldRequest) ([]HoldAnswer, time.Time, error) {
	scopes := table[Scope]{}
	scopes.number(ScopeAll)
	holds := make([]*Hold, len(asked))
	calls := make([]any, 0, 7*len(asked))
	for i, request := range asked {
		hold := &Hold{Token: request.Token, Job: request.Job, Day: day, Amount: request.Amount, Scopes: request.scopes}
		// Redis starts the lease after the moment of asking. It counts in whole milliseconds, and clocks run apart.
		hold.Until = request.asked.Add(request.Lease - time.Millisecond - request.Lease/1000)
		holds[i] = hold
		replaced, back := "", int64(0)
		if old := request.Replaces; old != nil && old.Day == day {
			replaced, back = old.member(), old.Amount
		}
		tenant, taskType := numbers(&scopes, hold.Scopes)
		calls = append(calls, hold.member(), hold.Amount, milliseconds(request.Lease), tenant, taskType, replaced, back)
	}
	args := make([]any, 0, 4+2*len(scopes.values)+len(calls))
	args = append(args, begins.UnixMilli(), ends.UnixMilli(), milliseconds(budgetKept), len(scopes.values))
	args = append(b.scopeArguments(args, scopes.values), calls...)
	reply, err := holdScript.Run(ctx, b.client, []string{
		b.keys.BudgetDay(day), b.keys.BudgetHolds(), b.keys.BudgetCost(day),
	}, args...).Slice()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("hold for %d calls: ask Redis: %w", len(asked), err)
	}
	answers, now, crossings, err := b.parseHolds(reply, holds, scopes.values, ends)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("hold for %d calls: %w", len(asked), err)
	}
	b.tell(ctx, day, crossings)
	return answers, now, nil
}

// numbers are those of a hold's scopes behind ScopeAll; 0 for none.
func numbers(scopes *table[Scope], held []Scope) (first, second int) {
	for i, scope := range held[1:] {
		if i == 0 {
			first = scopes.number(scope)
		} else {
			second = scopes.number(scope)
		}
	}
	return first, second
}

// parseHolds reads {now_ms}, or {now_ms, calls, crossings}.
func (b *Budget) parseHolds(reply []any, holds []*Hold, scopes []Scope, ends time.Time) ([]HoldAnswer, time.Time, []crossing, error) {
	if len(reply) != 1 && len(reply) != 3 {
		return nil, time.Time{}, nil, fmt.Errorf("%w (%d values)", errReply, len(reply))
	}
	millis, ok := reply[0].(int64)
	if !ok {
		return nil, time.Time{}, nil, fmt.Errorf("%w (%v)", errReply, reply)
	}
	now := time.UnixMilli(millis)
	if len(reply) == 1 {
		return nil, now, nil, nil
	}
	calls, ok := reply[1].([]any)
	if !ok || len(calls) != len(holds) {
		return nil, time.Time{}, nil, fmt.Errorf("%w (%v)", errReply, reply)
	}
	answers := make([]HoldAnswer, len(holds))
	for i, call := range calls {
		parts, _ := call.([]any)
		switch {
		case len(parts) == 1 && parts[0] == int64(1):
			answers[i].Hold = holds[i]
		case len(parts) == 4 && parts[0] == int64(0):
			scope, spent, held, err := parseRoom(parts[1:], scopes)
			if err != nil {
				return nil, time.Time{}, nil, err
			}
			answers[i].Exhausted = &Exhausted{
				Scope: scope, Limit: b.limits[scope], Spent: spent, Held: held, Amount: holds[i].Amount, NextDay: ends.Sub(now),
			}
		default:
			return nil, time.Time{}, nil, fmt.Errorf("%w (%v)", errReply, call)
		}
	}
	crossings, err := parseCrossings(reply[2], scopes)
	return answers, now, crossings, err
}
