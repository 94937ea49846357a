package gate

import (
	"context"
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

// allRedises are the servers that the random walks run on.
var allRedises = map[string]func(t *testing.T) store{
	"embedded": embeddedStore, "real": realStore,
	"cluster": func(t *testing.T) store {
		t.Helper()
		client, _ := redistest.Cluster(t)
		return realStoreOf(client)
	},
}

// TestWalk drives a fleet at random and knows nothing of how the gate works: it keeps the logs that the provider would,
// and the budget's books, and asks after every step whether a limit was passed in any 60 s, more was held and spent than
// the budget allows, more calls were out than there are permits, or two probes. GATE_SEED repeats a walk.
func TestWalk(t *testing.T) {
	t.Parallel()
	for name, start := range allRedises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			if given := os.Getenv("GATE_SEED"); given != "" {
				var err error
				seed, err = strconv.ParseUint(given, 10, 64)
				require.NoError(t, err)
			}
			// A deployment that is drawn poor may never meet something, however long its walk: another one does.
			unmet := "all"
			for try := range uint64(3) {
				if unmet = walkOnce(t, start(t), seed+try); unmet == "" {
					break
				}
			}
			require.Empty(t, unmet, "walks that never met it show nothing of it")
		})
	}
}

// walkOnce takes one walk, and tells what it should have met and has not.
func walkOnce(t *testing.T, on store, seed uint64) string {
	t.Helper()
	w := newWalk(t, on, seed)
	defer func() {
		t.Logf("GATE_SEED=%d: %d steps, %s passed, %v", seed, w.steps, w.passed.Round(time.Second), w.seen)
	}()
	for w.steps < walkSteps || w.unmet() != "" && w.steps < 2*walkSteps {
		w.step()
	}
	w.everybodyDies()
	return w.unmet()
}

// unmet is something that a walk has to meet and has not yet.
func (w *walk) unmet() string {
	for _, what := range []string{
		"granted", "place", "probe", "late", "duplicate", "requests", "tokens", "permits", "ramp", "no trace",
		"held", "budget", "budget: no trace", "replaced", "held again", "settled", "swept, sent", "swept, not sent", "reported late",
	} {
		if w.seen[what] == 0 {
			return what
		}
	}
	return ""
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

	books   *walkBooks
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
	hold          *walkHold
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
	w.books = newWalkBooks(w, s)
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
	case n < 85:
		w.books.sweep(100)
	case n < 86:
		w.books.holdAgain()
	case n < 88:
		w.books.holdMuch()
	default:
		w.jump()
	}
	w.check()
}

// ask asks for up to 60 calls at once on one route, as the callers of one worker do; some ask again. For each a hold is
// taken first: the budget and the gate do not know of each other, so that the order of the two says nothing.
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
	holds := w.books.holdFor(worker, len(asks))
	var before map[string]map[string]string
	if w.random.IntN(15) == 0 {
		asks = asks[:1]
		w.books.unused(holds[1:])
		holds = holds[:1]
		before = w.snapshot(w.t)
	}
	earliest := w.now()
	admissions, err := w.workers[worker].admitAll(context.Background(), route, asks)
	latest := w.now()
	require.NoError(w.t, err)
	w.steps += len(asks)
	var unused []*walkHold
	for i, admission := range admissions {
		if !admission.Granted {
			unused = append(unused, holds[i])
			w.seen[string(admission.Reason)]++
			if before != nil {
				require.Equal(w.t, withoutPressure(before), withoutPressure(w.snapshot(w.t)), "what is refused leaves no trace: %+v", admission)
				w.seen["no trace"]++
			}
			continue
		}
		call := again[admission.Token]
		switch {
		case call != nil:
			unused = append(unused, holds[i])
			w.unlog(call)
		case holds[i] == nil:
			w.report(worker, []Outcome{admission.Outcome(Release)})
			continue
		default:
			call = &walkCall{worker: worker, hold: holds[i]}
			call.hold.sent = true
			w.out = append(w.out, call)
		}
		w.granted(call, admission, asks[i], earliest, latest)
	}
	w.books.unused(unused)
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
	w.books.settle(ended, outcomes)
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
			call.hold.sent = w.random.IntN(3) > 0
		}
		return call.worker == dead
	})
	w.books.idle[dead] = nil // nobody gives them back
	if len(w.lost) > 0 && w.random.IntN(2) == 0 {
		call := w.lost[len(w.lost)-1]
		w.lost = w.lost[:len(w.lost)-1]
		outcome := w.outcome(call)
		w.report(dead, []Outcome{outcome})
		w.end(call, outcome)
		w.books.settle([]*walkCall{call}, []Outcome{outcome})
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
	w.books.advance(by)
	w.passed += by
	now := w.now()
	w.lost = slices.DeleteFunc(w.lost, func(call *walkCall) bool { return call.leaseEnds < now-time.Minute })
	for _, log := range w.logs {
		log.forget(now - 3*time.Minute)
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
