package gate

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// Every effect on a closed breaker with four failures behind it, and on one whose probe it is the outcome of.
func TestEffects(t *testing.T) {
	t.Parallel()
	type row struct {
		effect Effect
		// The expected change, state and counts.
		change                    Change
		state                     State
		failures, successes       int64 // consecutive
		calls, ok, bad            int64
		trips, reopen, recoveries int64
		// Who is refused afterwards, and why. "" is admitted.
		same, otherModel, otherEndpoint Reason
	}
	closed := map[string]row{
		"success":      {Success, Unchanged, StateClosed, 0, 1, 5, 1, 4, 0, 0, 0, "", "", ""},
		"failure":      {Failure, Opened, StateOpen, 5, 0, 5, 0, 5, 1, 0, 0, ReasonBreakerOpen, ReasonBreakerOpen, ""},
		"ignore":       {Ignore, Unchanged, StateClosed, 4, 0, 5, 0, 4, 0, 0, 0, "", "", ""},
		"release":      {Release, Unchanged, StateClosed, 4, 0, 4, 0, 4, 0, 0, 0, "", "", ""},
		"trip":         {Trip, Opened, StateOpen, 5, 0, 5, 0, 5, 1, 0, 0, ReasonBreakerOpen, ReasonBreakerOpen, ""},
		"trip_account": {TripAccount, Opened, StateOpen, 5, 0, 5, 0, 5, 1, 0, 0, ReasonBreakerOpen, ReasonBreakerOpen, ReasonBreakerOpen},
		"throttle":     {Throttle, Unchanged, StateClosed, 4, 0, 5, 0, 4, 0, 0, 0, ReasonCooldown, "", ReasonCooldown},
		"not_served":   {NotServed, Unchanged, StateClosed, 4, 0, 5, 0, 4, 0, 0, 0, ReasonNotServed, "", ""},
	}
	// These begin with the one call that tripped, and the probe.
	probed := map[string]row{
		"success":      {Success, Closed, StateClosed, 0, 1, 2, 1, 1, 1, 0, 1, "", "", ""},
		"failure":      {Failure, Reopened, StateOpen, 2, 0, 2, 0, 2, 1, 1, 0, ReasonBreakerOpen, ReasonBreakerOpen, ""},
		"ignore":       {Ignore, Unchanged, StateHalfOpen, 1, 0, 2, 0, 1, 1, 0, 0, "", ReasonProbeOut, ""},
		"release":      {Release, Unchanged, StateHalfOpen, 1, 0, 1, 0, 1, 1, 0, 0, "", ReasonProbeOut, ""},
		"trip":         {Trip, Reopened, StateOpen, 2, 0, 2, 0, 2, 1, 1, 0, ReasonBreakerOpen, ReasonBreakerOpen, ""},
		"trip_account": {TripAccount, Reopened, StateOpen, 2, 0, 2, 0, 2, 1, 1, 0, ReasonBreakerOpen, ReasonBreakerOpen, ReasonBreakerOpen},
		"throttle":     {Throttle, Unchanged, StateHalfOpen, 1, 0, 2, 0, 1, 1, 0, 0, ReasonCooldown, "", ReasonCooldown},
		"not_served":   {NotServed, Unchanged, StateHalfOpen, 1, 0, 2, 0, 1, 1, 0, 0, ReasonNotServed, "", ""},
	}
	require.Len(t, closed, len(Effects()))
	require.Len(t, probed, len(Effects()))

	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			check := func(name string, row row, prepare func(t require.TestingT, b *bundle) Admission) {
				t.Run(name, func(t *testing.T) {
					b := newBundle(s, testSettings)
					admission := prepare(t, b)
					outcome := admission.Outcome(row.effect)
					outcome.Latency = 80 * time.Millisecond
					transition := b.settle(t, outcome)
					assert.Equal(t, row.change, transition.Change)
					assert.False(t, transition.Late || transition.Duplicate)
					state := b.state(t, routeA)
					assert.Equal(t, transition.Generation, state.Generation)
					assert.Equal(t, row.change != Unchanged, state.Generation != admission.Generation, "a change is a generation")
					assert.Equal(t, row.state, state.State)
					assert.Zero(t, state.ProbeUntil, "whatever the effect, the lease is given back")
					assert.Equal(t, []int64{row.failures, row.successes}, []int64{state.ConsecutiveFailures, state.ConsecutiveSuccesses})
					assert.Equal(t, []int64{row.calls, row.ok, row.bad}, []int64{state.Calls, state.Successes, state.Failures})
					assert.Equal(t, []int64{row.trips, row.reopen, row.recoveries}, []int64{state.Trips, state.Reopenings, state.Recoveries})
					assert.Equal(t, row.effect == Success, state.Latency == 80*time.Millisecond, "only successes have a latency")
					for route, reason := range map[Route]Reason{routeB: row.otherEndpoint, routeOther: ""} {
						assert.Equal(t, reason, b.ask(t, route).Reason, "%s", route)
					}
					// In this order: while the breaker is half-open, the first that is admitted holds the lease.
					assert.Equal(t, row.same, b.ask(t, routeA).Reason)
					assert.Equal(t, row.otherModel, b.ask(t, routeALike).Reason)
				})
			}
			for name, row := range closed {
				check("closed/"+name, row, func(t require.TestingT, b *bundle) Admission {
					for range 4 {
						b.settle(t, b.admit(t, routeA).Outcome(Failure))
					}
					return b.admit(t, routeA)
				})
			}
			for name, row := range probed {
				check("probe/"+name, row, func(t require.TestingT, b *bundle) Admission { return b.probe(t, routeA) })
			}
		})
	}
}

func TestFiveFailuresOfAllWorkersOpen(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			one := newBundle(s, testSettings)
			two := &bundle{Gate: New(s.client, one.keys, &catalog.Catalog{Breaker: testSettings}), store: s, prefix: one.prefix, tokens: 1000}
			workers := []*bundle{one, two}
			for i := range 5 {
				assert.Equal(t, StateClosed, one.state(t, routeA).State)
				transition := workers[i%2].settle(t, workers[i%2].admit(t, routeA).Outcome(Failure))
				assert.Equal(t, i == 4, transition.Change == Opened, "failure %d", i+1)
			}
			one.refused(t, routeA, ReasonBreakerOpen, time.Hour)
			two.refused(t, routeA, ReasonBreakerOpen, time.Hour)
		})
	}
}

func TestSuccessEndsConsecutiveFailures(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			for _, effect := range []Effect{Failure, Failure, Failure, Failure, Success, Failure, Failure, Ignore, Failure, Throttle, Failure} {
				assert.Equal(t, Unchanged, b.settle(t, b.admit(t, routeALike).Outcome(effect)).Change)
				b.advance(t, testSettings.Cooldown)
			}
			assert.Equal(t, Opened, b.settle(t, b.admit(t, routeA).Outcome(Failure)).Change)
		})
	}
}

func TestLateReportsAreCountedOnly(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, effect := range []Effect{Success, Failure, Trip, TripAccount, Ignore} {
				b := newBundle(s, testSettings)
				old := b.admit(t, routeA)
				probe := b.probe(t, routeA)
				before := b.state(t, routeA)

				transition := b.settle(t, old.Outcome(effect))
				assert.True(t, transition.Late)
				assert.Equal(t, Unchanged, transition.Change)
				after := b.state(t, routeA)
				assert.Equal(t, before.Calls+1, after.Calls)
				assert.Equal(t, effect == Success, after.Successes == before.Successes+1)
				after.Calls, after.Successes, after.Failures, after.Latency = before.Calls, before.Successes, before.Failures, before.Latency
				assert.Equal(t, before, after, "%s", effect)
				assert.Equal(t, StateClosed, b.state(t, routeB).State)

				assert.Equal(t, Closed, b.settle(t, probe.Outcome(Success)).Change)
			}
		})
	}
}

// What a throttled or unserved model's late report says is as true as it was.
func TestLateReportsStillCoolAndMark(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			throttled, unserved := b.admit(t, routeA), b.admit(t, routeALike)
			b.settle(t, b.probe(t, routeA).Outcome(Success))
			assert.True(t, b.settle(t, throttled.Outcome(Throttle)).Late)
			assert.True(t, b.settle(t, unserved.Outcome(NotServed)).Late)
			b.refused(t, routeA, ReasonCooldown, testSettings.Cooldown)
			b.refused(t, routeALike, ReasonNotServed, testSettings.NotServed)
		})
	}
}

func TestProbeAfterItsLease(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			probe := b.probe(t, routeA)
			b.advance(t, testLease)
			assert.Equal(t, Closed, b.settle(t, probe.Outcome(Success)).Change, "no other took the lease: nothing newer is known")

			b = newBundle(s, testSettings)
			probe = b.probe(t, routeA)
			b.advance(t, testLease)
			next := b.admit(t, routeA)
			assert.True(t, b.settle(t, probe.Outcome(Success)).Late, "another's probe is out")
			assert.Equal(t, StateHalfOpen, b.state(t, routeA).State)
			b.refused(t, routeA, ReasonProbeOut, testLease)
			assert.True(t, b.settle(t, b.withToken(probe, "unknown").Outcome(Failure)).Late)
			assert.Equal(t, Reopened, b.settle(t, next.Outcome(Failure)).Change)
		})
	}
}

// withToken is the admission under a token that the gate has not seen.
func (b *bundle) withToken(admission Admission, token string) Admission {
	admission.Token = token
	return admission
}

func TestReportGivenTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, effect := range Effects() {
				b := newBundle(s, testSettings)
				outcome := b.admit(t, routeA).Outcome(effect)
				first := b.settle(t, outcome)
				before := b.snapshot(t)
				again := b.settle(t, outcome)
				assert.True(t, again.Duplicate, "%s", effect)
				assert.Equal(t, Unchanged, again.Change)
				assert.Equal(t, first.Generation, again.Generation)
				assert.Empty(t, again.OthersOpened)
				assert.Equal(t, before, b.snapshot(t), "%s", effect)
			}
		})
	}
}

func TestSettledTokensAreBounded(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	b := newBundle(store{client: client}, testSettings)
	require.NoError(t, b.Load(t.Context()))
	const calls = remembered + 600
	for first := 0; first < calls; first += 100 {
		pipe := client.Pipeline()
		for i := first; i < min(first+100, calls); i++ {
			b.PipeSettle(t.Context(), pipe, Outcome{Route: routeA, Token: fmt.Sprint(i), Effect: Success})
		}
		_, err := pipe.Exec(t.Context())
		require.NoError(t, err)
	}
	kept, err := client.ZCard(t.Context(), b.keys.EndpointSettled(routeA.Account, routeA.Endpoint)).Result()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, kept, int64(remembered))
	assert.LessOrEqual(t, kept, int64(remembered+256))
	assert.True(t, b.settle(t, Outcome{Route: routeA, Token: fmt.Sprint(calls - remembered), Effect: Success}).Duplicate)
	assert.EqualValues(t, calls, b.state(t, routeA).Calls)
}

func TestCooldownIsNeverShortened(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			for _, test := range []struct{ cooldown, expected time.Duration }{
				{2 * time.Hour, 2 * time.Hour},
				{time.Hour, 2 * time.Hour},
				{0, 2 * time.Hour},
				{-time.Hour, 2 * time.Hour},
				{3 * time.Hour, 3 * time.Hour},
			} {
				b.tokens++
				outcome := Outcome{Route: routeA, Token: fmt.Sprint("direct-", b.tokens), Effect: Throttle, For: test.cooldown}
				b.settle(t, outcome)
				b.refused(t, routeA, ReasonCooldown, test.expected)
				b.refused(t, routeB, ReasonCooldown, test.expected)
			}
		})
	}
}

func TestTripAccount(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			probe := b.probe(t, routeB)
			transition := b.settle(t, b.admit(t, routeA).Outcome(TripAccount))
			assert.Equal(t, Opened, transition.Change)
			assert.Empty(t, transition.OthersOpened, "the other one was open")
			b.refused(t, routeB, ReasonBreakerOpen, 6*time.Hour)
			assert.True(t, b.settle(t, probe.Outcome(Success)).Late, "its probe was sent before the account was refused")
			assert.EqualValues(t, 1, b.state(t, routeB).Trips)

			b = newBundle(s, testSettings)
			inFlight := b.admit(t, routeB)
			long := b.admit(t, routeB).Outcome(Trip)
			long.For = 24 * time.Hour
			b.settle(t, long)
			transition = b.settle(t, b.admit(t, routeA).Outcome(TripAccount))
			assert.Empty(t, transition.OthersOpened)
			b.refused(t, routeB, ReasonBreakerOpen, 24*time.Hour)
			assert.True(t, b.settle(t, inFlight.Outcome(Success)).Late)

			b = newBundle(s, testSettings)
			transition = b.settle(t, b.admit(t, routeB).Outcome(TripAccount))
			assert.Equal(t, []string{"acme-eu"}, transition.OthersOpened)
			assert.EqualValues(t, 1, b.state(t, routeA).Trips)
		})
	}
}

func TestLatencyAverage(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			for _, test := range []struct{ latency, average time.Duration }{
				{100 * time.Millisecond, 100 * time.Millisecond},
				{200 * time.Millisecond, 130 * time.Millisecond},
				{0, 91 * time.Millisecond},
				{time.Second, 363700 * time.Microsecond},
			} {
				outcome := b.admit(t, routeA).Outcome(Success)
				outcome.Latency = test.latency
				b.settle(t, outcome)
				assert.Equal(t, test.average, b.state(t, routeA).Latency)
			}
		})
	}
}

func TestSettleRefusesWhatItCannotUse(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	g := New(client, keyspace.New(""), &catalog.Catalog{Breaker: testSettings})
	pipe := client.Pipeline()
	for problem, outcome := range map[string]Outcome{
		"settle small@acme-eu: the attempt has no token":                  {Route: routeA, Effect: Success},
		`settle small@acme-eu: unknown effect "flood"`:                    {Route: routeA, Token: "one", Effect: "flood"},
		"settle small@acme-eu: the latency must not be negative, got -1s": {Route: routeA, Token: "one", Effect: Success, Latency: -time.Second},
	} {
		_, err := g.Settle(t.Context(), outcome)
		require.EqualError(t, err, problem)
		_, err = g.PipeSettle(t.Context(), pipe, outcome).Result(t.Context())
		require.EqualError(t, err, problem)
	}
	assert.Zero(t, pipe.Len(), "nothing is sent")

	require.NoError(t, client.Set(t.Context(), g.keys.Endpoint(routeA.Account, routeA.Endpoint), "no hash", 0).Err())
	_, err := g.Settle(t.Context(), Outcome{Route: routeA, Token: "one", Effect: Success})
	require.ErrorContains(t, err, "settle 1 calls on small@acme-eu in Redis: ")
	_, err = g.Endpoints(t.Context(), []Endpoint{{Account: routeA.Account, Name: routeA.Endpoint}})
	require.ErrorContains(t, err, "read the breakers of 1 endpoints from Redis: ")
}

func TestUnreadableBreakerIsNamed(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	g := New(client, keyspace.New(""), &catalog.Catalog{Breaker: testSettings})
	require.NoError(t, client.HSet(t.Context(), g.keys.Endpoint("acme", "acme-eu"), "calls", "many").Err())
	_, err := g.Endpoints(t.Context(), []Endpoint{{Account: "acme", Name: "acme-eu"}})
	require.EqualError(t, err, `read the breaker of endpoint acme-eu: field calls holds "many", not a whole number`)
}
