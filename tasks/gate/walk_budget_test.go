package gate

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// walkHoldLease is longer than a call and its wait for a place, as a worker's is.
const walkHoldLease = walkLease + longestWait + 5*time.Second

// walkBooks is the budget of a walk: what was held and spent by the answers that the fleet was given.
type walkBooks struct {
	purse   *purse
	w       *walk
	workers []*Budget
	days    map[string]map[Scope]*ScopeState
	maybe   map[string]int64     // by day, the calls that may have been billed
	holds   map[string]*walkHold // those that stand, by member
	idle    [walkWorkers][]*walkHold
	last    *Settlement
	changed bool
}

// walkHold is a hold as its worker knows it. It ends between two times of the test's own.
type walkHold struct {
	Hold
	request        HoldRequest
	worker         int
	earliest, ends time.Duration
	sent           bool // its call may have been
}

func newWalkBooks(w *walk, s store) *walkBooks {
	settings := catalog.Budget{
		DailyUSD: 10, Tenants: map[string]float64{"small": 4}, TaskTypes: map[string]float64{"dear": 3},
	}
	b := &walkBooks{
		purse: newPurse(s, settings), w: w, days: map[string]map[Scope]*ScopeState{}, maybe: map[string]int64{}, holds: map[string]*walkHold{},
	}
	b.purse.length = 5 * time.Minute
	for range walkWorkers {
		b.workers = append(b.workers, b.purse.another(s.client, settings))
	}
	return b
}

// on is what is known of a scope on a day.
func (b *walkBooks) on(day string, scope Scope) *ScopeState {
	if b.days[day] == nil {
		b.days[day] = map[Scope]*ScopeState{}
	}
	if b.days[day][scope] == nil {
		b.days[day][scope] = &ScopeState{Scope: scope}
	}
	return b.days[day][scope]
}

// holdFor asks for holds for so many calls of one worker, in the place of those that it has at hand. What the budget
// refuses is nil.
func (b *walkBooks) holdFor(worker, calls int) []*walkHold {
	var requests []HoldRequest
	for range calls {
		b.purse.calls++
		request := HoldRequest{
			Token: "h" + strconv.Itoa(b.purse.calls), Job: "job", Tenant: []string{"default", "default", "small"}[b.w.random.IntN(3)],
			TaskType: []string{"any", "any", "dear"}[b.w.random.IntN(3)], Amount: b.w.random.Int64N(dollar / 12), Lease: walkHoldLease,
		}
		if idle := b.idle[worker]; len(idle) > 0 {
			b.idle[worker] = idle[1:]
			request.Replaces, request.Tenant, request.TaskType = &idle[0].Hold, idle[0].request.Tenant, idle[0].request.TaskType
		}
		requests = append(requests, request)
	}
	return b.send(worker, requests)
}

func (b *walkBooks) send(worker int, requests []HoldRequest) []*walkHold {
	budget := b.workers[worker]
	for i := range requests {
		requests[i].scopes, requests[i].asked = budget.scopes(requests[i].Tenant, requests[i].TaskType), time.Now()
	}
	var before map[string]map[string]string
	if len(requests) == 1 {
		before = b.snapshot(budget.Today().Name)
	}
	earliest := b.w.now()
	today := []string{budget.Today().Name}
	answers, err := budget.holdAll(context.Background(), requests)
	require.NoError(b.w.t, err)
	today = append(today, budget.Today().Name)
	latest := b.w.now()
	b.w.steps += len(requests)
	holds := make([]*walkHold, len(requests))
	for i, answer := range answers {
		if refused := answer.Exhausted; refused != nil {
			b.w.seen["budget"]++
			b.refused(requests[i], *refused, today)
			if before != nil {
				require.Equal(b.w.t, before, b.snapshot(today[0]), "what is refused leaves no trace")
				b.w.seen["budget: no trace"]++
			}
			if old := requests[i].Replaces; old != nil {
				b.keepIdle(worker, b.holds[old.member()])
			}
			continue
		}
		b.w.seen["held"]++
		holds[i] = b.granted(worker, requests[i], *answer.Hold)
		holds[i].earliest, holds[i].ends = max(holds[i].earliest, earliest+walkHoldLease), latest+walkHoldLease
	}
	return holds
}

// refused checks that there really was no room, by the books.
func (b *walkBooks) refused(request HoldRequest, refused Exhausted, today []string) {
	require.True(b.w.t, slices.ContainsFunc(today, func(day string) bool {
		more := request.Amount
		if old := request.Replaces; old != nil && old.Day == day && b.holds[old.member()] != nil {
			more -= old.Amount
		}
		state := b.on(day, refused.Scope)
		return state.Held == refused.Held && state.Spent == refused.Spent && state.Held+state.Spent+more > refused.Limit
	}), "%+v refused on %v: %+v", request, today, refused)
}

func (b *walkBooks) granted(worker int, request HoldRequest, hold Hold) *walkHold {
	if again := b.holds[hold.member()]; again != nil {
		return again
	}
	if old := request.Replaces; old != nil {
		b.w.seen["replaced"]++
		if old.Day == hold.Day {
			b.settled(Settlement{Hold: *old})
		} else {
			b.report(worker, Settlement{Hold: *old}) // the script could not touch it
		}
	}
	b.changed = true
	for _, scope := range hold.Scopes {
		b.on(hold.Day, scope).Held += hold.Amount
	}
	held := &walkHold{Hold: hold, request: request, worker: worker}
	b.holds[hold.member()] = held
	return held
}

// holdAgain sends the request of a hold again, as a client does whose connection broke.
func (b *walkBooks) holdAgain() {
	for _, call := range b.w.out {
		hold := call.hold
		if b.holds[hold.member()] == hold && b.workers[call.worker].Today().Name == hold.Day && hold.request.Replaces == nil {
			before := len(b.holds)
			b.send(call.worker, []HoldRequest{hold.request})
			if len(b.holds) == before {
				b.w.seen["held again"]++
			}
			return
		}
	}
}

// holdMuch asks for so much that the budget often has no room for it.
func (b *walkBooks) holdMuch() {
	b.purse.calls++
	worker := b.w.random.IntN(walkWorkers)
	holds := b.send(worker, []HoldRequest{{
		Token: "h" + strconv.Itoa(b.purse.calls), Job: "job", Tenant: "small", TaskType: "dear", Amount: b.w.random.Int64N(4 * dollar), Lease: walkHoldLease,
	}})
	b.unused(holds)
}

// unused are holds of one worker whose calls were not admitted: given back at once, or kept for the worker's next calls.
func (b *walkBooks) unused(holds []*walkHold) {
	byDay := map[string][]Settlement{}
	var worker int
	for _, hold := range holds {
		switch {
		case hold == nil:
		case b.w.random.IntN(20) == 0:
			b.keepIdle(hold.worker, hold)
		default:
			worker = hold.worker
			byDay[hold.Day] = append(byDay[hold.Day], Settlement{Hold: hold.Hold})
		}
	}
	for _, settlements := range byDay {
		b.w.seen["given back"] += len(settlements)
		b.report(worker, settlements...)
	}
}

func (b *walkBooks) keepIdle(worker int, hold *walkHold) {
	if hold != nil {
		b.idle[worker] = append(b.idle[worker], hold)
	}
}

// settle reports what calls cost, or that they were not sent.
func (b *walkBooks) settle(calls []*walkCall, outcomes []Outcome) {
	for i, call := range calls {
		settlement := Settlement{Hold: call.hold.Hold}
		if outcomes[i].Effect != Release {
			settlement.Call = b.cost(call.hold, b.w.random.Int64N(call.hold.Amount+1), b.w.random.IntN(20) == 0)
		}
		if b.report(call.worker, settlement) {
			b.w.seen["settled"]++
		} else {
			b.w.seen["reported late"]++
		}
	}
}

func (b *walkBooks) cost(hold *walkHold, nanos int64, maybe bool) *CallCost {
	return &CallCost{
		TaskType: hold.request.TaskType, Model: "m", Endpoint: "e", Tenant: hold.request.Tenant, Nanos: nanos, MaybeBilled: maybe,
	}
}

// report settles holds of one day, sometimes twice, and tells whether the last of them stood.
func (b *walkBooks) report(worker int, settlements ...Settlement) (stood bool) {
	again := len(settlements)
	if b.last != nil && b.last.Hold.Day == settlements[0].Hold.Day && b.w.random.IntN(10) == 0 {
		settlements = append(settlements, *b.last)
	}
	settled, err := b.workers[worker].settleAll(context.Background(), settlements[0].Hold.Day, settlements)
	require.NoError(b.w.t, err)
	for i, settlement := range settlements {
		require.Equal(b.w.t, b.settled(settlement), settled[i])
		require.False(b.w.t, i == again && settled[i], "a hold is settled once")
	}
	b.last = &settlements[0]
	return settled[again-1]
}

// settled settles by the books.
func (b *walkBooks) settled(settlement Settlement) bool {
	member := settlement.Hold.member()
	if b.holds[member] == nil {
		return false
	}
	delete(b.holds, member)
	b.changed = true
	for _, scope := range settlement.Hold.Scopes {
		state := b.on(settlement.Hold.Day, scope)
		state.Held -= settlement.Hold.Amount
		if settlement.Call != nil {
			state.Spent += settlement.Call.Nanos
		}
	}
	if settlement.Call != nil && settlement.Call.MaybeBilled {
		b.maybe[settlement.Hold.Day]++
	}
	return true
}

// sweep does with expired holds what living workers do: whose call may have been sent has cost its worst, other holds
// come back.
func (b *walkBooks) sweep(most int) int {
	before := b.w.now()
	expired, err := b.workers[b.w.random.IntN(walkWorkers)].Expired(context.Background(), most)
	require.NoError(b.w.t, err)
	after, due := b.w.now(), 0
	const rounded = 5 * time.Millisecond
	for _, hold := range b.holds {
		if hold.ends+rounded < before {
			due++
		}
	}
	require.GreaterOrEqual(b.w.t, len(expired), min(due, most), "expired holds are found")
	for i := range expired {
		b.w.steps++
		hold := b.holds[expired[i].member()]
		require.NotNil(b.w.t, hold, "it does not stand")
		require.LessOrEqual(b.w.t, hold.earliest-rounded, after, "it has not expired")
		settlement := Settlement{Hold: expired[i]}
		what := "swept, not sent"
		if hold.sent {
			settlement.Call, what = b.cost(hold, hold.Amount, true), "swept, sent"
		}
		b.w.seen[what]++
		b.report(b.w.random.IntN(walkWorkers), settlement)
	}
	return len(expired)
}

// advance lets time pass for the days and the holds; where the clock of Redis can be set, it has passed already.
func (b *walkBooks) advance(by time.Duration) {
	if b.purse.store.drift > 0 {
		b.purse.advance(b.w.t, by)
	}
}

func (b *walkBooks) check() {
	if !b.changed {
		return
	}
	b.changed = false
	for day, scopes := range b.days {
		for scope, state := range scopes {
			limit, _ := b.purse.Limit(scope)
			require.LessOrEqual(b.w.t, state.Held+state.Spent, limit, "%s on %s", scope, day)
			require.GreaterOrEqual(b.w.t, state.Held, int64(0), "%s on %s", scope, day)
		}
	}
}

// snapshot is what the budget has stored of a day and of holds, without what it has told of.
func (b *walkBooks) snapshot(day string) map[string]map[string]string {
	snapshot := map[string]map[string]string{day: {}}
	states, err := b.purse.Scopes(context.Background(), day)
	require.NoError(b.w.t, err)
	for _, state := range states {
		snapshot[day][string(state.Scope)] = strconv.FormatInt(state.Held, 10) + " " + strconv.FormatInt(state.Spent, 10)
	}
	holds, err := b.purse.client.ZRangeWithScores(context.Background(), b.purse.keys.BudgetHolds(), 0, -1).Result()
	require.NoError(b.w.t, err)
	snapshot["holds"] = map[string]string{}
	for _, hold := range holds {
		snapshot["holds"][hold.Member.(string)] = strconv.FormatFloat(hold.Score, 'f', 0, 64) //nolint:forcetypeassert // go-redis's
	}
	return snapshot
}

// everybodyDies settles every hold, as spent or as never sent, and what Redis has is what the books have.
func (b *walkBooks) everybodyDies() {
	for b.sweep(100) > 0 {
	}
	require.Empty(b.w.t, b.holds)
	ctx := context.Background()
	held, err := b.purse.client.ZCard(ctx, b.purse.keys.BudgetHolds()).Result()
	require.NoError(b.w.t, err)
	require.Zero(b.w.t, held)
	for day, scopes := range b.days {
		states, err := b.purse.Scopes(ctx, day)
		require.NoError(b.w.t, err)
		for _, state := range states {
			require.Zero(b.w.t, state.Held, "%s on %s", state.Scope, day)
			if known := scopes[state.Scope]; known != nil {
				require.Equal(b.w.t, known.Spent, state.Spent, "%s on %s", state.Scope, day)
			}
		}
	}
	costs, err := b.purse.Costs(ctx, slices.Collect(maps.Keys(b.days)))
	require.NoError(b.w.t, err)
	maybe := map[string]int64{}
	for _, cost := range costs {
		if cost.MaybeBilled > 0 {
			maybe[cost.Day] += cost.MaybeBilled
		}
	}
	require.Equal(b.w.t, b.maybe, maybe, "calls that may have been billed")
}
