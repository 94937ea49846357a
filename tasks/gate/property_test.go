package gate

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

var (
	routes = []Route{routeA, routeALike, routeB, routeOther}

	// Whole steps, which a server whose clock goes on by itself stays well within.
	coarsePauses = []time.Duration{10 * time.Minute, testLease, time.Hour, 2 * time.Hour, 6 * time.Hour}
	// To the millisecond, for a clock that stands still.
	finePauses = append([]time.Duration{
		time.Millisecond, testLease - time.Millisecond, time.Hour - time.Millisecond, time.Hour + time.Millisecond,
	}, coarsePauses...)
)

// Random interleavings of admissions, reports, repeated commands, pauses and crashes of three workers, against a plain
// Go model.
func TestGateAgainstModel(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			pipelined, err := s.client.AutoPipeline()
			require.NoError(t, err)
			t.Cleanup(func() { _ = pipelined.Close() })
			rapid.Check(t, func(rt *rapid.T) {
				require.NoError(rt, s.client.FlushDB(t.Context()).Err())
				w := newWorld(s, catalog.Breaker{
					Failures: rapid.IntRange(1, 5).Draw(rt, "failures"), Recovery: time.Hour,
					RecoveryMax:  rapid.SampledFrom([]time.Duration{time.Hour, 5 * time.Hour}).Draw(rt, "recovery_max"),
					LongRecovery: 6 * time.Hour,
					Ramp:         new(rapid.SampledFrom([]time.Duration{0, 8 * 20 * time.Minute}).Draw(rt, "ramp")),
					Cooldown:     30 * time.Minute, NotServed: 2 * time.Hour,
				})
				w.workers = append(w.workers, New(s.client, w.keys, w.catalog), New(pipelined, w.keys, w.catalog))
				w.last = w.snapshot(rt)
				rt.Repeat(map[string]func(*rapid.T){
					"admit":       w.admit,
					"admit ":      w.admit, // twice as often
					"admit again": w.admitAgain,
					"settle":      w.settle,
					"settle ":     w.settle,
					"repeat":      w.settleAgain,
					"crash":       w.crash,
					"force":       w.force,
					"pause":       w.pause,
					"":            w.check,
				})
			})
		})
	}
}

// world is a fleet of workers on one Redis, and the model of what they should see.
type world struct {
	*bundle
	workers []*Gate
	model   *fleet

	tokens  int
	out     []Admission                  // granted and not yet settled
	reports []Outcome                    // given
	last    map[string]map[string]string // all that was stored after the last step
	// expect is what a step asks of what was stored before and after it. It may be nil.
	expect func(rt *rapid.T, before, after map[string]map[string]string)

	// leases are those that workers were told they hold, in the words of the answers alone.
	leases map[string]lease
}

type lease struct {
	endpoint Endpoint
	until    time.Duration
}

func newWorld(s store, settings catalog.Breaker) *world {
	b := newBundle(s, settings)
	return &world{
		bundle: b, workers: []*Gate{b.Gate}, model: newFleet(settings), leases: map[string]lease{},
	}
}

func (w *world) worker(rt *rapid.T) *Gate {
	return w.workers[rapid.IntRange(0, len(w.workers)-1).Draw(rt, "worker")]
}

func (w *world) admit(rt *rapid.T) {
	w.tokens++
	w.askFor(rt, rapid.SampledFrom(routes).Draw(rt, "route"), "t"+strconv.Itoa(w.tokens))
}

// admitAgain is a command that is sent again after its answer was lost.
func (w *world) admitAgain(rt *rapid.T) {
	if len(w.out) == 0 {
		rt.Skip("nothing is out")
	}
	i := rapid.IntRange(0, len(w.out)-1).Draw(rt, "attempt")
	again := w.out[i]
	w.out = slices.Delete(w.out, i, i+1)
	w.askFor(rt, again.Route, again.Token)
}

func (w *world) askFor(rt *rapid.T, route Route, token string) {
	ramped := w.model.breaker(route.Account, route.Endpoint).rampUntil > w.model.now
	expected := w.model.admit(route, token, testLease)
	got, err := w.worker(rt).Admit(context.Background(), route, asking(token))
	require.NoError(rt, err)

	requireNear(rt, expected.RetryIn, got.RetryIn, w.store.drift, "retry in")
	if w.store.drift > 0 && w.model.refusals(route, token)[got.Reason] == w.model.now+expected.RetryIn {
		expected.Reason = got.Reason // of two that end together
	}
	if !got.Granted {
		require.Equal(rt, got.RetryIn, got.TicketIn, "there is no line without a limit")
	}
	got.RetryIn, got.TicketIn, got.ProbeUntil = expected.RetryIn, 0, time.Time{}
	require.Equal(rt, expected, got)
	if !got.Granted || !got.Probe && !ramped {
		w.expect = noTrace // of a refused call, or one through a closed breaker
	}
	if got.Granted {
		w.out = append(w.out, got)
	}
	if held := w.leases[token]; got.Probe && held.until <= w.model.now {
		w.leases[token] = lease{Endpoint{Account: route.Account, Name: route.Endpoint}, w.model.now + testLease}
	}
}

func (w *world) settle(rt *rapid.T) {
	if len(w.out) == 0 {
		rt.Skip("nothing is out")
	}
	i := rapid.IntRange(0, len(w.out)-1).Draw(rt, "attempt")
	outcome := w.out[i].Outcome(rapid.SampledFrom(Effects()).Draw(rt, "effect"))
	outcome.Latency = time.Duration(rapid.IntRange(0, 60_000_000).Draw(rt, "latency_us")) * time.Microsecond
	outcome.For = rapid.SampledFrom([]time.Duration{0, 0, 10 * time.Minute, 24 * time.Hour}).Draw(rt, "for")
	outcome.AccountEndpoints = acmeEndpoints
	w.out = slices.Delete(w.out, i, i+1)
	w.reports = append(w.reports, outcome)
	w.report(rt, outcome)
	delete(w.leases, outcome.Token)
}

// settleAgain is a report that is sent again, now or long after.
func (w *world) settleAgain(rt *rapid.T) {
	if len(w.reports) == 0 {
		rt.Skip("nothing was settled")
	}
	outcome := rapid.SampledFrom(w.reports).Draw(rt, "report")
	transition := w.report(rt, outcome)
	require.True(rt, transition.Duplicate)
	w.expect = noTrace
}

func (w *world) report(rt *rapid.T, outcome Outcome) Transition {
	ctx, worker := context.Background(), w.worker(rt)
	var got Transition
	var err error
	if rapid.Bool().Draw(rt, "pipelined") {
		pipe := worker.client.Pipeline()
		pending := worker.PipeSettle(ctx, pipe, outcome)
		_, _ = pipe.Exec(ctx)
		got, err = pending.Result(ctx)
	} else {
		got, err = worker.Settle(ctx, outcome)
	}
	require.NoError(rt, err)
	require.Equal(rt, w.model.settle(outcome), got)
	if got.Late {
		endpoint := w.keys.Endpoint(outcome.Route.Account, outcome.Route.Endpoint)
		w.expect = func(rt *rapid.T, before, after map[string]map[string]string) {
			for _, field := range []string{"state", "until_ms", "generation", "consecutive_failures", "consecutive_successes"} {
				was, is := cmp.Or(before[endpoint][field], "0"), cmp.Or(after[endpoint][field], "0")
				require.Equal(rt, was, is, "a late report changes no state: %s", field)
			}
		}
	}
	return got
}

func noTrace(rt *rapid.T, before, after map[string]map[string]string) {
	require.Equal(rt, before, after, "this leaves no trace")
}

// crash is a worker that dies: what it had out is never settled.
func (w *world) crash(rt *rapid.T) {
	if len(w.out) == 0 {
		rt.Skip("nothing is out")
	}
	i := rapid.IntRange(0, len(w.out)-1).Draw(rt, "attempt")
	w.out = slices.Delete(w.out, i, i+1)
}

func (w *world) pause(rt *rapid.T) {
	pauses := finePauses
	if w.store.drift > 0 {
		pauses = coarsePauses
	}
	pause := rapid.SampledFrom(pauses).Draw(rt, "pause")
	w.model.now += pause
	w.advance(rt, pause)
}

// check compares all that is stored with the model, after every step.
func (w *world) check(rt *rapid.T) {
	valid := map[Endpoint]int{}
	for _, lease := range w.leases {
		if w.model.now < lease.until {
			valid[lease.endpoint]++
		}
	}
	for endpoint, leases := range valid {
		require.LessOrEqual(rt, leases, 1, "valid probe leases of %s", endpoint.Name)
	}

	now, err := w.client.Time(context.Background()).Result()
	require.NoError(rt, err)
	stored := w.snapshot(rt)
	if w.expect != nil {
		w.expect(rt, w.last, stored)
	}
	w.last, w.expect = stored, nil
	for name, b := range w.model.breakers {
		hash := stored[w.keys.Endpoint(name.Account, name.Name)]
		require.Equal(rt, b.stored(), withoutTimes(hash), "%s", name.Name)
		w.requireTime(rt, now, b.until, hash["until_ms"])
		w.requireTime(rt, now, b.leaseUntil, hash["probe_until_ms"])
		w.requireTime(rt, now, b.rampUntil, hash["ramp_until_ms"])
	}
	for model, until := range w.model.cooldowns {
		w.requireTime(rt, now, until, stored[w.keys.ModelLimits(model.Account, model.Name)]["cooldown_until_ms"])
	}
	for route, until := range w.model.notServed {
		key := w.keys.EndpointModelLimits(route.Account, route.Endpoint, route.Model)
		w.requireTime(rt, now, until, stored[key]["not_served_until_ms"])
	}
	w.checkStates(rt, now)
}

// checkStates compares what a status shows.
func (w *world) checkStates(rt *rapid.T, now time.Time) {
	names := slices.Collect(maps.Keys(w.model.breakers))
	states, err := w.Endpoints(context.Background(), names)
	require.NoError(rt, err)
	for i, name := range names {
		b := w.model.breakers[name]
		expected := b.state
		expected.Endpoint, expected.Generation, expected.State = name, b.generation, StateClosed
		expected.Forced = b.forced > 0 && b.forced == b.generation
		if b.open {
			expected.State = StateOpen
			if b.until <= w.model.now {
				expected.State = StateHalfOpen
			}
		}
		require.Equal(rt, b.open, !states[i].Until.IsZero())
		require.Equal(rt, b.leaseUntil > w.model.now, states[i].ProbeUntil.After(now.Add(w.store.drift)))
		require.Equal(rt, b.rampUntil > w.model.now, states[i].RampUntil.After(now.Add(w.store.drift)))
		states[i].Until, states[i].ProbeUntil, states[i].RampUntil = time.Time{}, time.Time{}, time.Time{}
		require.Equal(rt, expected, states[i])
	}
}

// requireTime compares a time of the model with a stored one, both as seen from now.
func (w *world) requireTime(rt *rapid.T, now time.Time, expected time.Duration, stored string) {
	if expected == 0 {
		require.Contains(rt, []string{"", "0"}, stored)
		return
	}
	millis, err := strconv.ParseInt(stored, 10, 64)
	require.NoError(rt, err)
	requireNear(rt, expected-w.model.now, time.UnixMilli(millis).Sub(now.Truncate(time.Millisecond)), w.store.drift, "until")
}

// requireNear allows got to be less by up to the drift.
func requireNear(rt *rapid.T, expected, got, drift time.Duration, what string) {
	require.True(rt, got <= expected && got >= expected-drift, "%s: expected %s, got %s", what, expected, got)
}

// withoutTimes leaves out the times, and what holds nothing.
func withoutTimes(hash map[string]string) map[string]string {
	rest := map[string]string{}
	for field, value := range hash {
		if !strings.HasSuffix(field, "until_ms") && value != "" && value != "0" && value != "closed" {
			rest[field] = value
		}
	}
	return rest
}
