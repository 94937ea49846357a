package gate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Random interleavings of holds, raises, reports, repeated commands, pauses, crashes and turns of the day, with three
// workers, against a plain Go model. In the end everybody has died, and all holds are back or settled.
func TestBudgetAgainstModel(t *testing.T) {
	t.Parallel()
	for name, start := range allRedises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			pipelined, err := s.client.AutoPipeline()
			require.NoError(t, err)
			t.Cleanup(func() { _ = pipelined.Close() })
			rapid.Check(t, func(rt *rapid.T) {
				flush(rt, s.client)
				settings := testBudget
				if rapid.IntRange(0, 9).Draw(rt, "off") == 0 {
					settings.DailyUSD = catalog.Unlimited
				}
				w := newTreasury(s, settings)
				w.workers = append(w.workers, w.another(pipelined, settings), w.another(s.client, settings))
				rt.Repeat(map[string]func(*rapid.T){
					"hold":       w.take,
					"hold ":      w.take, // twice as often
					"raise":      w.raise,
					"hold again": w.takeAgain,
					"settle":     w.report,
					"settle ":    w.report,
					"repeat":     w.reportAgain,
					"crash":      w.crash,
					"sweep":      func(rt *rapid.T) { w.sweep(rt, 3) },
					"pause":      w.pause,
					"":           w.check,
				})
				w.everybodyDies(rt)
			})
		})
	}
}

// treasury is a fleet of workers on one budget, and the model of what they should see.
type treasury struct {
	*purse
	workers []*Budget
	now     time.Duration // since the beginning of the first day, as the days reckon
	days    map[string]*modelDay
	holds   map[string]*modelHold // those that stand, by member
	out     []*modelHold          // those whose worker lives
	reports []Settlement
	swept   map[string]modelGuess // by member
}

// modelGuess is a hold that was settled for a worker that may still report.
type modelGuess struct {
	entry string
	at    time.Duration
}

type modelDay struct {
	held, spent map[Scope]int64
	costs       map[string]Cost
	told        map[string]bool
}

type modelHold struct {
	Hold
	request HoldRequest
	expires time.Duration
	sent    bool
}

func newTreasury(s store, settings catalog.Budget) *treasury {
	p := newPurse(s, settings)
	if s.drift == 0 { // its clock has gone on since the run before
		now, _ := s.client.Time(context.Background()).Result()
		p.shift.Store(int64(20*time.Minute) - now.UnixNano()%int64(time.Hour))
	}
	return &treasury{
		purse: p, workers: []*Budget{p.Budget}, now: 20 * time.Minute,
		days: map[string]*modelDay{}, holds: map[string]*modelHold{}, swept: map[string]modelGuess{},
	}
}

func (w *treasury) worker(rt *rapid.T) *Budget {
	return w.workers[rapid.IntRange(0, len(w.workers)-1).Draw(rt, "worker")]
}

// on is what the model knows of a day; the days have the names that Redis gives them.
func (w *treasury) on(day string) *modelDay {
	if w.days[day] == nil {
		w.days[day] = &modelDay{held: map[Scope]int64{}, spent: map[Scope]int64{}, costs: map[string]Cost{}, told: map[string]bool{}}
	}
	return w.days[day]
}

// dayNow is the name of the day that it is for Redis.
func (w *treasury) dayNow(rt *rapid.T) string {
	now, err := w.client.Time(context.Background()).Result()
	require.NoError(rt, err)
	return w.day(now).Name
}

func (w *treasury) take(rt *rapid.T) { w.ask(rt, nil) }

func (w *treasury) raise(rt *rapid.T) {
	hold := w.pick(rt)
	if hold.sent {
		rt.Skip("it was sent")
	}
	w.ask(rt, hold)
}

func (w *treasury) ask(rt *rapid.T, replaces *modelHold) {
	request := w.request(int64(rapid.IntRange(0, 60).Draw(rt, "dimes")) * dollar / 10)
	request.Tenant = rapid.SampledFrom([]string{"default", "small"}).Draw(rt, "tenant")
	request.TaskType = rapid.SampledFrom([]string{"", "any", "dear"}).Draw(rt, "task type")
	request.Lease = rapid.SampledFrom([]time.Duration{10 * time.Minute, 30 * time.Minute, 2 * time.Hour}).Draw(rt, "lease")
	if replaces != nil {
		old := replaces.Hold
		request.Tenant, request.TaskType, request.Replaces = replaces.request.Tenant, replaces.request.TaskType, &old
	}
	w.send(rt, request)
}

// send asks, and compares the answer with the model's.
func (w *treasury) send(rt *rapid.T, request HoldRequest) {
	day := w.dayNow(rt)
	w.on(day)
	before := w.snapshot(rt)
	got, err := w.worker(rt).Hold(request)
	require.NoError(rt, err)
	expected := w.judge(day, request)
	if expected != nil {
		require.NotNil(rt, got.Exhausted)
		expected.NextDay = got.Exhausted.NextDay
		require.Equal(rt, expected, got.Exhausted)
		left := time.Hour - w.now%time.Hour
		requireNear(rt, left+time.Millisecond, got.Exhausted.NextDay, w.store.drift+time.Millisecond, "next day") // rounded
		require.Equal(rt, before, w.snapshot(rt), "what is refused leaves no trace")
		return
	}
	require.NotNil(rt, got.Hold, "%+v", got.Exhausted)
	require.Equal(rt, day, got.Hold.Day)
	w.granted(request, *got.Hold)
}

// judge is the model's answer: nil for a hold.
func (w *treasury) judge(day string, request HoldRequest) *Exhausted {
	hold := Hold{Token: request.Token, Job: request.Job, Day: day, Amount: request.Amount, Scopes: w.scopes(request.Tenant, request.TaskType)}
	if w.holds[hold.member()] != nil {
		return nil
	}
	more := request.Amount
	if old := request.Replaces; old != nil && old.Day == day && w.holds[old.member()] != nil {
		more -= old.Amount
	}
	var refused *Exhausted
	for _, scope := range hold.Scopes {
		limit, limited := w.Limit(scope)
		spent, held := w.on(day).spent[scope], w.on(day).held[scope]
		if !limited || more <= 0 || spent+held+more <= limit {
			continue
		}
		if refused == nil {
			refused = &Exhausted{Scope: scope, Limit: limit, Spent: spent, Held: held, Amount: request.Amount}
			if spent+request.Amount > limit {
				w.on(day).told["budget.100 "+string(scope)] = true
			}
		}
	}
	return refused
}

func (w *treasury) granted(request HoldRequest, hold Hold) {
	day := w.on(hold.Day)
	if again := w.holds[hold.member()]; again != nil {
		again.expires = max(again.expires, w.now+request.Lease)
		return
	}
	if old := request.Replaces; old != nil {
		w.settled(Settlement{Hold: *old})
		w.out = slices.DeleteFunc(w.out, func(h *modelHold) bool { return h.Token == old.Token })
	}
	for _, scope := range hold.Scopes {
		day.held[scope] += hold.Amount
	}
	h := &modelHold{Hold: hold, request: request, expires: w.now + request.Lease}
	w.holds[hold.member()], w.out = h, append(w.out, h)
}

func (w *treasury) pick(rt *rapid.T) *modelHold {
	if len(w.out) == 0 {
		rt.Skip("nothing is out")
	}
	return rapid.SampledFrom(w.out).Draw(rt, "hold")
}

// takeAgain is a command that is sent again after its answer was lost.
func (w *treasury) takeAgain(rt *rapid.T) {
	hold := w.pick(rt)
	if w.holds[hold.member()] == nil || hold.Day != w.dayNow(rt) {
		rt.Skip("it would be another hold")
	}
	w.send(rt, hold.request)
}

// report settles a hold with what its call cost, at most what was held; or gives it back.
func (w *treasury) report(rt *rapid.T) {
	hold := w.pick(rt)
	if guess, swept := w.swept[hold.member()]; swept && w.now-guess.at > 20*time.Hour {
		rt.Skip("it may be forgotten")
	}
	w.out = slices.DeleteFunc(w.out, func(h *modelHold) bool { return h == hold })
	settlement := Settlement{Hold: hold.Hold}
	if rapid.IntRange(0, 4).Draw(rt, "sent") > 0 {
		settlement.Call = w.call(rt, hold)
	}
	w.reports = append(w.reports, settlement)
	w.settleBoth(rt, settlement)
}

func (w *treasury) call(rt *rapid.T, hold *modelHold) *CallCost {
	return &CallCost{
		TaskType: hold.request.TaskType, Model: rapid.SampledFrom([]string{"m1", "m2"}).Draw(rt, "model"), Endpoint: "e",
		Tenant: hold.request.Tenant, Nanos: rapid.Int64Range(0, hold.Amount).Draw(rt, "cost"),
		Usage:       tasks.Usage{PromptTokens: rapid.IntRange(0, 9).Draw(rt, "prompt"), CompletionTokens: rapid.IntRange(0, 9).Draw(rt, "answer")},
		MaybeBilled: rapid.Bool().Draw(rt, "maybe"),
	}
}

// reportAgain is a report that is sent again, now or long after.
func (w *treasury) reportAgain(rt *rapid.T) {
	if len(w.reports) == 0 {
		rt.Skip("nothing was settled")
	}
	before := w.snapshot(rt)
	w.settleBoth(rt, rapid.SampledFrom(w.reports).Draw(rt, "report"))
	require.Equal(rt, before, w.snapshot(rt))
}

func (w *treasury) settleBoth(rt *rapid.T, settlement Settlement) {
	got, err := w.worker(rt).Settle(settlement)
	require.NoError(rt, err)
	require.Equal(rt, w.settled(settlement), got)
}

// settled settles in the model.
func (w *treasury) settled(settlement Settlement) bool {
	member := settlement.Hold.member()
	day, late := w.on(settlement.Hold.Day), w.holds[member] == nil
	if late {
		guess, swept := w.swept[member]
		if !swept || settlement.Guess {
			return false
		}
		delete(w.swept, member) // what was guessed is taken back
		sum := day.costs[guess.entry]
		sum.Calls, sum.Nanos = sum.Calls-1, sum.Nanos-settlement.Hold.Amount
		sum.MaybeBilled, sum.MaybeNanos = sum.MaybeBilled-1, sum.MaybeNanos-settlement.Hold.Amount
		day.costs[guess.entry] = sum
		for _, scope := range settlement.Hold.Scopes {
			day.spent[scope] -= settlement.Hold.Amount
			day.held[scope] += settlement.Hold.Amount
		}
	}
	delete(w.holds, member)
	if settlement.Guess {
		w.swept[member] = modelGuess{settlement.Call.entry().words + " " + settlement.Call.Tenant, w.now}
	}
	for _, scope := range settlement.Hold.Scopes {
		day.held[scope] -= settlement.Hold.Amount
		if call := settlement.Call; call != nil {
			day.spent[scope] += call.Nanos
			limit, limited := w.Limit(scope)
			for _, percent := range []int64{80, 100} {
				if limited && call.Nanos > 0 && !late && day.spent[scope]*100 >= limit*percent {
					day.told[fmt.Sprintf("budget.%d %s", percent, string(scope))] = true
				}
			}
		}
	}
	if call := settlement.Call; call != nil {
		name := call.entry().words + " " + call.Tenant
		sum := day.costs[name]
		sum.Calls, sum.Nanos = sum.Calls+1, sum.Nanos+call.Nanos
		sum.Usage.PromptTokens += call.Usage.PromptTokens
		sum.Usage.CompletionTokens += call.Usage.CompletionTokens
		if call.MaybeBilled {
			sum.MaybeBilled, sum.MaybeNanos = sum.MaybeBilled+1, sum.MaybeNanos+call.Nanos
		}
		day.costs[name] = sum
	}
	return true
}

// crash is a worker that dies, before or after its call was sent: what it held is never settled by it.
func (w *treasury) crash(rt *rapid.T) {
	hold := w.pick(rt)
	w.out = slices.DeleteFunc(w.out, func(h *modelHold) bool { return h == hold })
	hold.sent = rapid.Bool().Draw(rt, "sent")
}

// sweep does with expired holds what workers do, those of living workers that were late among them.
func (w *treasury) sweep(rt *rapid.T, most int) int {
	holds, err := w.worker(rt).Expired(context.Background(), most)
	require.NoError(rt, err)
	due := 0
	for _, hold := range w.holds {
		if hold.expires <= w.now {
			due++
		}
	}
	require.Len(rt, holds, min(due, most))
	for _, hold := range holds {
		stands := w.holds[hold.member()]
		require.NotNil(rt, stands)
		settlement := Settlement{Hold: hold}
		if stands.sent = stands.sent || rapid.Bool().Draw(rt, "sent"); stands.sent {
			settlement.Guess = true
			settlement.Call = &CallCost{TaskType: stands.request.TaskType, Model: "m1", Endpoint: "e", Tenant: stands.request.Tenant, Nanos: hold.Amount, MaybeBilled: true}
		}
		w.settleBoth(rt, settlement)
		w.reports = append(w.reports, settlement)
	}
	return len(holds)
}

func (w *treasury) pause(rt *rapid.T) {
	pause := rapid.SampledFrom([]time.Duration{10 * time.Minute, 20 * time.Minute, time.Hour, 3 * time.Hour}).Draw(rt, "pause")
	if (w.now+pause)%time.Hour < 5*time.Minute {
		pause += 10 * time.Minute // away from the turn of the day, which a real clock might cross by itself
	}
	w.now += pause
	w.advance(rt, pause)
}

func (w *treasury) snapshot(rt *rapid.T) map[string]map[string]string {
	ctx := context.Background()
	snapshot := map[string]map[string]string{}
	for day := range w.days {
		for _, key := range []string{w.keys.BudgetDay(day), w.keys.BudgetCost(day)} {
			fields, err := w.client.HGetAll(ctx, key).Result()
			require.NoError(rt, err)
			maps.DeleteFunc(fields, func(name, value string) bool { return strings.HasPrefix(name, "told:") || value == "0" })
			snapshot[key] = fields
		}
	}
	holds, err := w.client.ZRangeWithScores(ctx, w.keys.BudgetHolds(), 0, -1).Result()
	require.NoError(rt, err)
	snapshot["holds"] = map[string]string{}
	for _, hold := range holds {
		snapshot["holds"][fmt.Sprint(hold.Member)] = fmt.Sprintf("%.0f", hold.Score)
	}
	return snapshot
}

// check compares all that is stored with the model, after every step.
func (w *treasury) check(rt *rapid.T) {
	stored := w.snapshot(rt)
	require.Equal(rt, slices.Sorted(maps.Keys(w.holds)), slices.Sorted(maps.Keys(stored["holds"])))
	told := map[string]bool{}
	for name, day := range w.days {
		expected := map[string]string{}
		for kind, amounts := range map[string]map[Scope]int64{"held:": day.held, "spent:": day.spent} {
			for scope, amount := range amounts {
				if amount != 0 {
					expected[kind+string(scope)] = fmt.Sprint(amount)
				}
			}
		}
		require.Equal(rt, expected, stored[w.keys.BudgetDay(name)])
		for scope := range w.limits {
			if limit, limited := w.Limit(scope); limited {
				require.LessOrEqual(rt, day.held[scope]+day.spent[scope], limit)
			}
		}
		costs := map[string]string{}
		for entry, c := range day.costs {
			costs[entry] = fmt.Sprint(c.Calls, c.Nanos, c.Usage.PromptTokens, c.Usage.CompletionTokens, c.MaybeBilled, c.MaybeNanos)
		}
		require.Equal(rt, costs, stored[w.keys.BudgetCost(name)])
		for event := range day.told {
			told[event+" "+name] = true
		}
	}
	events := w.events(rt)
	slices.Sort(events)
	require.Equal(rt, slices.Sorted(maps.Keys(told)), append([]string(nil), events...), "each threshold is told once")
}

// everybodyDies lets every hold expire and sweeps: nothing is held any more.
func (w *treasury) everybodyDies(rt *rapid.T) {
	for _, hold := range w.out {
		hold.sent = true
	}
	w.out = nil
	w.now += 4 * time.Hour
	w.advance(rt, 4*time.Hour)
	for w.sweep(rt, 3) > 0 {
	}
	w.check(rt)
	require.Empty(rt, w.holds)
	for _, day := range w.days {
		for scope, held := range day.held {
			require.Zero(rt, held, scope)
		}
	}
}

// flush empties a Redis, all nodes of a cluster.
func flush(rt *rapid.T, client redis.UniversalClient) {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		require.NoError(rt, cluster.ForEachMaster(context.Background(), func(ctx context.Context, node *redis.Client) error {
			return node.FlushDB(ctx).Err()
		}))
		return
	}
	require.NoError(rt, client.FlushDB(context.Background()).Err())
}
