package gate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

const (
	walkWorkers = 16
	walkLease   = 10 * time.Second
)

// TestWalk drives a fleet at random and knows nothing of how the gate works: it keeps the logs that the provider would,
// and asks after every step whether a limit was passed in any 60 s, more calls were out than there are permits, or two
// probes. GATE_SEED repeats a walk.
func TestWalk(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) store{
		"embedded": embeddedStore, "real": realStore,
		"cluster": func(t *testing.T) store {
			t.Helper()
			client, _ := redistest.Cluster(t)
			return realStoreOf(client)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			if given := os.Getenv("GATE_SEED"); given != "" {
				var err error
				seed, err = strconv.ParseUint(given, 10, 64)
				require.NoError(t, err)
			}
			w := newWalk(t, start(t), seed)
			defer func() {
				t.Logf("GATE_SEED=%d: %d steps, %s passed, %v", seed, w.steps, w.passed.Round(time.Second), w.seen)
			}()
			for w.steps < walkSteps {
				w.step()
			}
			w.everybodyDies()
			for _, what := range []string{"granted", "place", "probe", "late", "duplicate", "requests", "tokens", "permits", "ramp"} {
				require.NotZero(t, w.seen[what], "a walk that never met %q shows nothing of it", what)
			}
		})
	}
}

type walk struct {
	*bundle
	t       *testing.T
	random  *rand.Rand
	workers []*Gate
	limited map[Route][]catalog.LimitScope
	steps   int
	passed  time.Duration  // all that the clock was moved by
	seen    map[string]int // how often what happened

	out     []*walkCall // of living workers
	lost    []*walkCall // of dead ones
	settled []Outcome
	logs    map[catalog.LimitScope]*walkLog
	probes  map[Endpoint][]*walkCall // those that were told to probe
}

// walkCall is a call as its worker and its provider know it. The times are the test's own, before and after it asked.
type walkCall struct {
	Admission
	worker        int
	earliest, was time.Duration // when it begins; and as it was logged
	latest        time.Duration
	leaseEnds     time.Duration
	probeEnds     time.Duration
	tokens        int
}

func newWalk(t *testing.T, s store, seed uint64) *walk {
	t.Helper()
	settings := catalog.Breaker{
		Failures: 3, Recovery: 5 * time.Second, RecoveryMax: 20 * time.Second, LongRecovery: 30 * time.Second,
		Ramp: new(4 * time.Second), Cooldown: 2 * time.Second, NotServed: 3 * time.Second, FailureRate: 0.5, SlowRate: 0.9,
	}
	c := limits{
		account:       catalog.Limits{RequestsPerMinute: 600, TokensPerMinute: 500_000, Concurrency: 40},
		accountModel:  catalog.Limits{RequestsPerMinute: 400, Concurrency: 30},
		endpoint:      catalog.Limits{RequestsPerMinute: 200, TokensPerMinute: 200_000, Concurrency: 20},
		endpointModel: catalog.Limits{RequestsPerMinute: 150, TokensPerMinute: 100_000},
	}.catalog(settings)
	c.Endpoints["other-eu"].Limits = catalog.Limits{RequestsPerMinute: 7, TokensPerMinute: 3000}
	w := &walk{
		bundle: newLimitedBundle(s, c), t: t, random: rand.New(rand.NewPCG(seed, seed)), limited: map[Route][]catalog.LimitScope{},
		seen: map[string]int{}, logs: map[catalog.LimitScope]*walkLog{}, probes: map[Endpoint][]*walkCall{},
	}
	for range walkWorkers {
		w.workers = append(w.workers, New(s.client, w.keys, c))
	}
	for _, route := range walkRoutes {
		w.limited[route] = c.LimitsFor(c.Endpoints[route.Endpoint], route.Model)
		for _, scope := range w.limited[route] {
			w.logs[scope] = &walkLog{}
		}
	}
	return w
}

var walkRoutes = []Route{routeA, routeA, routeALarge, routeB, routeB, routeBLarge, routeOther}

// now is the time of the walk: that of Redis, or, where it cannot be set, this machine's with all jumps.
func (w *walk) now() time.Duration {
	if w.store.drift == 0 {
		return w.passed
	}
	return w.passed + time.Duration(time.Now().UnixNano())
}

func (w *walk) step() {
	switch n := w.random.IntN(100); {
	case n < 45:
		w.ask()
	case n < 80:
		w.settle()
	case n < 82:
		w.settleAgain()
	case n < 83 && w.random.IntN(3) == 0:
		w.crash()
	default:
		w.jump()
	}
	w.check()
}

// ask asks for up to 60 calls at once on one route, as the callers of one worker do; some ask again.
func (w *walk) ask() {
	route, worker := walkRoutes[w.random.IntN(len(walkRoutes))], w.random.IntN(walkWorkers)
	var asks []Ask
	again := map[string]*walkCall{}
	for range 1 + w.random.IntN(60) {
		w.tokens++
		ask := Ask{
			Token: "t" + strconv.Itoa(w.tokens), Lease: walkLease, Tokens: w.random.IntN(2000),
			Priority: []tasks.Priority{tasks.PriorityCritical, tasks.PriorityDefault, tasks.PriorityBulk, tasks.PriorityBulk}[w.random.IntN(4)],
			Waited:   time.Duration(w.random.IntN(600)) * time.Second,
			MaxWait:  []time.Duration{0, time.Second, math.MaxInt64}[w.random.IntN(3)],
		}
		if len(w.out) > 0 && w.random.IntN(30) == 0 {
			if call := w.out[w.random.IntN(len(w.out))]; call.Route == route && call.worker == worker && again[call.Token] == nil {
				ask.Token, again[call.Token] = call.Token, call
			}
		}
		asks = append(asks, ask)
	}
	var before map[string]map[string]string
	if w.random.IntN(15) == 0 {
		asks = asks[:1]
		before = w.snapshot(w.t)
	}
	earliest := w.now()
	admissions, err := w.workers[worker].admitAll(context.Background(), route, asks)
	latest := w.now()
	require.NoError(w.t, err)
	w.steps += len(asks)
	for i, admission := range admissions {
		if !admission.Granted {
			w.seen[string(admission.Reason)]++
			if before != nil {
				require.Equal(w.t, withoutPressure(before), withoutPressure(w.snapshot(w.t)), "what is refused leaves no trace: %+v", admission)
				w.seen["no trace"]++
			}
			continue
		}
		call := again[admission.Token]
		if call == nil {
			call = &walkCall{worker: worker}
			w.out = append(w.out, call)
		} else {
			w.unlog(call)
		}
		w.granted(call, admission, asks[i], earliest, latest)
	}
}

func (w *walk) granted(call *walkCall, admission Admission, ask Ask, earliest, latest time.Duration) {
	w.seen["granted"]++
	if admission.StartIn > 0 {
		w.seen["place"]++
	}
	call.Admission, call.tokens = admission, ask.Tokens
	// A place is given in whole ms, rounded up.
	call.earliest, call.latest = earliest+admission.StartIn-time.Millisecond, latest+admission.StartIn
	call.leaseEnds = call.earliest + walkLease
	if admission.Probe && call.probeEnds+50*time.Millisecond <= earliest { // who asks again keeps its lease
		w.seen["probe"]++
		call.probeEnds = call.earliest + walkLease
		endpoint := Endpoint{Account: admission.Route.Account, Name: admission.Route.Endpoint}
		w.probes[endpoint] = append(w.probes[endpoint], call)
	}
	call.was = call.earliest
	for _, scope := range w.limited[call.Route] {
		w.logs[scope].add(call)
	}
}

func (w *walk) unlog(call *walkCall) {
	for _, scope := range w.limited[call.Route] {
		w.logs[scope].remove(call)
	}
}

// settle reports up to 30 calls of one worker on one route.
func (w *walk) settle() {
	if len(w.out) == 0 {
		return
	}
	one := w.out[w.random.IntN(len(w.out))]
	var outcomes []Outcome
	var ended []*walkCall
	most := 1 + w.random.IntN(30)
	w.out = slices.DeleteFunc(w.out, func(call *walkCall) bool {
		if call.worker != one.worker || call.Route != one.Route || len(outcomes) == most || w.random.IntN(3) == 0 {
			return false
		}
		outcomes, ended = append(outcomes, w.outcome(call)), append(ended, call)
		return true
	})
	w.report(one.worker, outcomes)
	for i, call := range ended {
		w.end(call, outcomes[i])
	}
}

func (w *walk) outcome(call *walkCall) Outcome {
	effects := []Effect{Failure, Ignore, Release, Release, Release}
	outcome := call.Outcome(Success)
	if w.random.IntN(8) == 0 {
		outcome.Effect = effects[w.random.IntN(len(effects))]
	}
	if w.random.IntN(200) == 0 {
		outcome.Effect = []Effect{Trip, TripAccount, Throttle, NotServed}[w.random.IntN(4)]
		outcome.AccountEndpoints = acmeEndpoints
	}
	outcome.Latency = time.Duration(w.random.IntN(20_000)) * time.Millisecond
	switch w.random.IntN(4) {
	case 0:
		outcome.Tokens = w.random.IntN(call.tokens + 1)
	case 1:
		outcome.Tokens += w.random.IntN(100)
	}
	if w.random.IntN(20) == 0 {
		outcome.RemainingRequests, outcome.RemainingTokens = w.random.IntN(10), w.random.IntN(10_000)
	}
	return outcome
}

// end is what the provider knows of a call that has ended. What it counts beyond what was asked for cannot have been
// kept: that is owed afterwards.
func (w *walk) end(call *walkCall, outcome Outcome) {
	w.unlog(call)
	call.leaseEnds, call.probeEnds = 0, 0
	if outcome.Effect == Release {
		return // it was never sent
	}
	call.tokens = min(call.tokens, outcome.Tokens)
	for _, scope := range w.limited[call.Route] {
		w.logs[scope].add(call)
	}
}

func (w *walk) report(worker int, outcomes []Outcome) {
	if len(outcomes) == 0 {
		return
	}
	transitions, err := w.workers[worker].settleAll(context.Background(), outcomes[0].Route, outcomes)
	require.NoError(w.t, err)
	w.steps += len(outcomes)
	for _, transition := range transitions {
		w.seen[string(transition.Change)]++
		if transition.Late {
			w.seen["late"]++
		}
		require.False(w.t, transition.Duplicate)
	}
	w.settled = outcomes
}

// settleAgain repeats the last reports.
func (w *walk) settleAgain() {
	if len(w.settled) == 0 {
		return
	}
	transitions, err := w.workers[w.random.IntN(walkWorkers)].settleAll(context.Background(), w.settled[0].Route, w.settled)
	require.NoError(w.t, err)
	w.steps += len(w.settled)
	for _, transition := range transitions {
		require.True(w.t, transition.Duplicate)
		w.seen["duplicate"]++
	}
}

// crash ends a worker: its calls are never settled, or long after by somebody who finds them.
func (w *walk) crash() {
	w.steps++
	dead := w.random.IntN(walkWorkers)
	w.out = slices.DeleteFunc(w.out, func(call *walkCall) bool {
		if call.worker == dead {
			w.seen["lost"]++
			w.lost = append(w.lost, call)
		}
		return call.worker == dead
	})
	if len(w.lost) > 0 && w.random.IntN(2) == 0 {
		call := w.lost[len(w.lost)-1]
		w.lost = w.lost[:len(w.lost)-1]
		outcome := w.outcome(call)
		w.report(dead, []Outcome{outcome})
		w.end(call, outcome)
	}
}

// jump lets some time pass, mostly less than it takes for the limits to allow as much as is asked for.
func (w *walk) jump() {
	w.steps++
	by := time.Duration(w.random.ExpFloat64() * float64(4*time.Second)).Truncate(time.Millisecond)
	if w.random.IntN(50) == 0 {
		by += time.Duration(w.random.IntN(90_000)) * time.Millisecond
	}
	w.advance(w.t, by)
	w.passed += by
	now := w.now()
	w.lost = slices.DeleteFunc(w.lost, func(call *walkCall) bool { return call.leaseEnds < now-time.Minute })
	for _, log := range w.logs {
		log.forget(now - 3*time.Minute)
	}
}

func (w *walk) check() {
	now := w.now()
	for scope, log := range w.logs {
		if most := scope.Limits.Concurrency; most > 0 {
			held := 0
			for _, calls := range [][]*walkCall{w.out, w.lost} {
				for _, call := range calls {
					if call.leaseEnds > now && slices.Contains(w.limited[call.Route], scope) {
						held++
					}
				}
			}
			require.LessOrEqual(w.t, held, most, "calls that are out of %s", scope)
		}
		if !log.changed {
			continue
		}
		log.changed = false
		calls, tokens := log.most()
		if most := scope.Limits.RequestsPerMinute; most > 0 {
			require.LessOrEqual(w.t, calls, most, "requests of %s in 60s", scope)
		}
		if most := scope.Limits.TokensPerMinute; most > 0 {
			require.LessOrEqual(w.t, tokens, most, "tokens of %s in 60s", scope)
		}
	}
	for endpoint, calls := range w.probes {
		calls = slices.DeleteFunc(calls, func(call *walkCall) bool { return call.probeEnds <= now })
		w.probes[endpoint] = calls
		require.LessOrEqual(w.t, len(calls), 1, "valid probe leases of %s", endpoint.Name)
	}
}

// everybodyDies leaves no permit and no lease behind, and the gate as open as it was.
func (w *walk) everybodyDies() {
	w.advance(w.t, 10*time.Minute)
	now, err := w.client.Time(context.Background()).Result()
	require.NoError(w.t, err)
	for scope := range w.logs {
		held := w.client.ZCount(context.Background(), w.keys.Permits(scope.Account, scope.Endpoint, scope.Model),
			fmt.Sprintf("(%d", now.UnixMilli()), "(inf")
		require.NoError(w.t, held.Err())
		require.Zero(w.t, held.Val(), "permits of %s", scope)
	}
	for _, route := range []Route{routeA, routeB, routeOther} {
		require.Zero(w.t, w.state(w.t, route).ProbeUntil, "%s", route)
		admission := w.asks(w.t, route, Ask{Priority: tasks.PriorityBulk, Tokens: 10, MaxWait: math.MaxInt64})
		require.True(w.t, admission.Granted, "%s: %s", route, admission.Reason)
	}
}

// withoutPressure leaves out that more urgent work waits: the only thing that the refused may leave behind.
func withoutPressure(snapshot map[string]map[string]string) map[string]map[string]string {
	for key, fields := range snapshot {
		delete(fields, "critical_until_us")
		delete(fields, "default_until_us")
		if len(fields) == 0 {
			delete(snapshot, key)
		}
	}
	return snapshot
}

// walkLog is what a provider has seen of a scope, in the order of the times.
type walkLog struct {
	calls   []*walkCall
	changed bool
}

func (l *walkLog) place(call *walkCall) int {
	i, _ := slices.BinarySearchFunc(l.calls, call, func(a, b *walkCall) int {
		return cmp.Or(cmp.Compare(a.was, b.was), cmp.Compare(a.Token, b.Token))
	})
	return i
}

func (l *walkLog) add(call *walkCall) {
	l.changed = true
	l.calls = slices.Insert(l.calls, l.place(call), call)
}

func (l *walkLog) remove(call *walkCall) {
	if i := l.place(call); i < len(l.calls) && l.calls[i] == call {
		l.calls = slices.Delete(l.calls, i, i+1)
	}
}

func (l *walkLog) forget(before time.Duration) {
	i := slices.IndexFunc(l.calls, func(call *walkCall) bool { return call.was >= before })
	if i > 0 {
		l.calls = slices.Delete(l.calls, 0, i)
	}
}

// most is the most calls and tokens that were surely within some 60 s: by how much the time of one is not known, all
// windows are shorter.
func (l *walkLog) most() (calls, tokens int) {
	window := time.Minute
	for _, call := range l.calls {
		window = min(window, time.Minute-(call.latest-call.earliest))
	}
	first, sum := 0, 0
	for i, call := range l.calls {
		sum += call.tokens
		for call.was-l.calls[first].was >= window {
			sum -= l.calls[first].tokens
			first++
		}
		calls, tokens = max(calls, i-first+1), max(tokens, sum)
	}
	return calls, tokens
}
