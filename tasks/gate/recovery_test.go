package gate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// After a recovery 1, 2, 4, ... calls are admitted in the eighths of the ramp, by all workers together.
func TestRamp(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			settings := testSettings
			settings.Ramp = new(8 * 10 * time.Minute)
			b := newBundle(s, settings)
			admitted := func() (calls int) {
				for b.ask(t, routeA).Granted {
					calls++
				}
				return calls
			}
			require.Equal(t, Closed, b.settle(t, b.probe(t, routeA).Outcome(Success)).Change)
			require.False(t, b.state(t, routeA).RampUntil.IsZero())
			for stage := range 8 {
				require.Equal(t, 1<<stage, admitted(), "eighth %d", stage)
				b.refused(t, routeALike, ReasonRamp, 10*time.Minute)
				b.admit(t, routeB)
				b.advance(t, 10*time.Minute)
			}
			require.True(t, b.state(t, routeA).RampUntil.IsZero())
			for range 300 {
				b.admit(t, routeA)
			}
			require.Empty(t, b.state(t, routeA).Cause)
		})
	}
}

// An eighth in which nobody called is not saved up, and a failure while the ramp runs ends it.
func TestRampIsLostByTime(t *testing.T) {
	t.Parallel()
	settings := testSettings
	settings.Ramp, settings.Failures = new(8*10*time.Minute), 1
	b := newBundle(embeddedStore(t), settings)
	b.settle(t, b.probe(t, routeA).Outcome(Success))
	b.advance(t, 20*time.Minute-time.Millisecond)
	admission := b.admit(t, routeA)
	b.admit(t, routeA)
	b.refused(t, routeA, ReasonRamp, time.Millisecond)
	b.advance(t, time.Millisecond)
	b.admit(t, routeA)
	require.Equal(t, Opened, b.settle(t, admission.Outcome(Failure)).Change)
	b.refused(t, routeA, ReasonBreakerOpen, settings.Recovery)
	require.True(t, b.state(t, routeA).RampUntil.IsZero())
}

// Each probe that fails doubles the recovery time, up to a cap; one that succeeds ends that.
func TestRecoveryDoubles(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			settings := testSettings
			settings.RecoveryMax = 10 * time.Hour
			b := newBundle(s, settings)
			b.trip(t, routeA)
			for _, period := range []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 10 * time.Hour, 10 * time.Hour} {
				b.refused(t, routeA, ReasonBreakerOpen, period)
				b.advance(t, period)
				probe := b.admit(t, routeA)
				require.Equal(t, Reopened, b.settle(t, probe.Outcome(Failure)).Change)
			}
			b.advance(t, 10*time.Hour)
			b.settle(t, b.admit(t, routeA).Outcome(Success))
			b.trip(t, routeA)
			b.refused(t, routeA, ReasonBreakerOpen, time.Hour)
			b.advance(t, time.Hour)
			b.settle(t, b.admit(t, routeA).Outcome(Failure))
			b.refused(t, routeA, ReasonBreakerOpen, 2*time.Hour)

			b.advance(t, 2*time.Hour)
			named := b.admit(t, routeA).Outcome(Failure)
			named.For = 20 * time.Hour
			b.settle(t, named)
			b.refused(t, routeA, ReasonBreakerOpen, 20*time.Hour)
			b.advance(t, 20*time.Hour)
			b.settle(t, b.admit(t, routeA).Outcome(Trip))
			b.refused(t, routeA, ReasonBreakerOpen, 10*time.Hour)
		})
	}
}

// rated counts rates only: no row of failures opens the breaker.
func rated() catalog.Breaker {
	settings := testSettings
	settings.Failures, settings.Window, settings.MinCalls, settings.SlowCall = 1000, 2*time.Hour, 10, 10*time.Second
	return settings
}

func TestFailureRate(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			settings := rated()
			settings.FailureRate = 0.5
			b := newBundle(s, settings)
			report := func(effect Effect) Transition {
				outcome := b.admit(t, routeA).Outcome(effect)
				outcome.Cause = "unavailable"
				return b.settle(t, outcome)
			}
			for range 5 {
				require.Equal(t, Unchanged, report(Failure).Change, "fewer than 10 calls are no rate")
			}
			for range 5 {
				require.Equal(t, Unchanged, report(Success).Change, "a call that succeeds opens nothing for those that failed")
			}
			require.Equal(t, Unchanged, report(Ignore).Change)
			require.Equal(t, Opened, report(Failure).Change)
			require.Equal(t, "unavailable", b.state(t, routeA).Cause)
			b.advance(t, settings.Recovery)
			require.Equal(t, Closed, report(Success).Change)
			require.Equal(t, Unchanged, report(Failure).Change, "the window begins anew")

			b = newBundle(s, settings)
			for range 9 {
				report(Failure)
			}
			b.advance(t, 2*time.Hour)
			require.Equal(t, Unchanged, report(Failure).Change, "the others are longer ago than the window")
			for range 8 {
				report(Failure)
			}
			b.advance(t, 61*time.Minute)
			require.Equal(t, Opened, report(Failure).Change, "those of the half before count")
		})
	}
}

func TestSlowCalls(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			settings := rated()
			settings.SlowRate = 0.4
			b := newBundle(s, settings)
			report := func(latency time.Duration) Transition {
				outcome := b.admit(t, routeA).Outcome(Success)
				outcome.Latency = latency
				return b.settle(t, outcome)
			}
			for range 7 {
				require.Equal(t, Unchanged, report(10*time.Second).Change, "that is not above the threshold")
			}
			for range 4 {
				require.Equal(t, Unchanged, report(11*time.Second).Change)
			}
			require.Equal(t, Opened, report(11*time.Second).Change, "5 of 12")
			state := b.state(t, routeA)
			require.Equal(t, "slow", state.Cause)
			require.EqualValues(t, 1, state.Trips)
			b.refused(t, routeA, ReasonBreakerOpen, settings.Recovery)
		})
	}
}

// A due probe is left to bulk work at first, then to default, and only then taken by critical.
func TestLeastUrgentProbes(t *testing.T) {
	t.Parallel()
	for priority, wait := range map[tasks.Priority]time.Duration{
		tasks.PriorityBulk: 0, tasks.PriorityDefault: time.Second, tasks.PriorityCritical: 2 * time.Second,
	} {
		b := newBundle(embeddedStore(t), testSettings)
		b.trip(t, routeA)
		b.advance(t, testSettings.Recovery-time.Millisecond)
		refused := b.asks(t, routeA, Ask{Priority: priority})
		require.Equal(t, ReasonBreakerOpen, refused.Reason)
		require.Equal(t, wait+time.Millisecond, refused.RetryIn)
		b.advance(t, wait)
		require.False(t, b.asks(t, routeA, Ask{Priority: priority}).Granted, "%s", priority)
		b.advance(t, time.Millisecond)
		require.True(t, b.asks(t, routeA, Ask{Priority: priority}).Probe, "%s", priority)
	}
}

// The class of the failure that opened a breaker is told to all that it keeps away.
func TestCauseIsShown(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			outcome := b.admit(t, routeA).Outcome(TripAccount)
			outcome.Cause = "auth"
			b.settle(t, outcome)
			for _, route := range []Route{routeA, routeB} {
				require.Equal(t, "auth", b.ask(t, route).Cause, "%s", route)
				require.Equal(t, "auth", b.state(t, route).Cause, "%s", route)
			}
			b.advance(t, testSettings.LongRecovery)
			probe := b.admit(t, routeA)
			require.Equal(t, ReasonProbeOut, b.ask(t, routeA).Reason)
			require.Equal(t, "auth", b.ask(t, routeA).Cause)
			reopening := probe.Outcome(Failure)
			reopening.Cause = "unavailable"
			b.settle(t, reopening)
			require.Equal(t, "unavailable", b.ask(t, routeA).Cause)
			b.advance(t, testSettings.RecoveryMax)
			b.settle(t, b.admit(t, routeA).Outcome(Success))
			require.Empty(t, b.state(t, routeA).Cause)
			require.Empty(t, b.admit(t, routeA).Cause)
		})
	}
}
