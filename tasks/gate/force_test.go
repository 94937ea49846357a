package gate

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var endpointA = Endpoint{Account: routeA.Account, Name: routeA.Endpoint}

// force opens or closes a breaker by hand, amid everything else.
func (w *world) force(rt *rapid.T) {
	route := rapid.SampledFrom(routes).Draw(rt, "route")
	endpoint := Endpoint{Account: route.Account, Name: route.Endpoint}
	worker, open := w.worker(rt), rapid.Bool().Draw(rt, "open")
	var changed bool
	var err error
	period := rapid.SampledFrom([]time.Duration{10 * time.Minute, 24 * time.Hour}).Draw(rt, "period")
	if open {
		changed, err = worker.Open(context.Background(), endpoint, period)
	} else {
		changed, err = worker.Close(context.Background(), endpoint)
	}
	require.NoError(rt, err)
	require.Equal(rt, w.model.force(endpoint, open, period), changed)
	for token, lease := range w.leases {
		if lease.endpoint == endpoint {
			delete(w.leases, token) // void
		}
	}
}

func TestForce(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			t.Run("open", func(t *testing.T) { testOpen(t, newBundle(s, testSettings)) })
			t.Run("close", func(t *testing.T) { testClose(t, newBundle(s, testSettings)) })
			t.Run("the probe that is out", func(t *testing.T) { testForcedProbe(t, newBundle(s, testSettings)) })
		})
	}
}

func testOpen(t *testing.T, b *bundle) {
	out := b.admit(t, routeA)
	before := b.state(t, routeA)
	changed, err := b.Open(t.Context(), endpointA, 2*time.Hour)
	require.NoError(t, err)
	assert.True(t, changed)
	b.refused(t, routeALike, ReasonBreakerOpen, 2*time.Hour)
	assert.True(t, b.admit(t, routeB).Granted, "the account's other endpoints go on")
	state := b.state(t, routeA)
	assert.True(t, state.Forced)
	assert.Equal(t, StateOpen, state.State)
	assert.Equal(t, before.Trips, state.Trips, "it is no trip")

	transition := b.settle(t, out.Outcome(Success))
	assert.True(t, transition.Late, "a call from before changes no state")
	assert.Equal(t, StateOpen, b.state(t, routeA).State)
	assert.EqualValues(t, 1, b.state(t, routeA).Calls, "and is counted")

	changed, err = b.Open(t.Context(), endpointA, 0)
	require.NoError(t, err)
	assert.False(t, changed, "it was open")
	b.refused(t, routeA, ReasonBreakerOpen, testSettings.LongRecovery)

	b.advance(t, testSettings.LongRecovery)
	assert.Equal(t, StateHalfOpen, b.state(t, routeA).State)
	probe := b.admit(t, routeA)
	require.True(t, probe.Probe)
	assert.Equal(t, Closed, b.settle(t, probe.Outcome(Success)).Change)
	state = b.state(t, routeA)
	assert.Equal(t, StateClosed, state.State)
	assert.False(t, state.Forced, "it closed by itself")
	_, err = b.Open(t.Context(), endpointA, -time.Second)
	assert.ErrorContains(t, err, "endpoint acme-eu: the period must be at least 1ms, got -1s")
}

func testClose(t *testing.T, b *bundle) {
	for range testSettings.Failures {
		b.settle(t, b.admit(t, routeA).Outcome(Failure))
	}
	b.refused(t, routeA, ReasonBreakerOpen, testSettings.Recovery)
	changed, err := b.Close(t.Context(), endpointA)
	require.NoError(t, err)
	assert.True(t, changed)
	admission := b.admit(t, routeA)
	assert.False(t, admission.Probe)
	state := b.state(t, routeA)
	assert.True(t, state.Forced)
	assert.EqualValues(t, testSettings.Failures, state.ConsecutiveFailures)
	assert.EqualValues(t, 1, state.Trips)
	assert.Zero(t, state.Recoveries, "it is no recovery")

	assert.Equal(t, Opened, b.settle(t, admission.Outcome(Failure)).Change, "one more failure opens it again")
	_, err = b.Close(t.Context(), endpointA)
	require.NoError(t, err)
	b.settle(t, b.admit(t, routeA).Outcome(Success))
	assert.Equal(t, Unchanged, b.settle(t, b.admit(t, routeA).Outcome(Failure)).Change, "the success ended the failures in a row")
	changed, err = b.Close(t.Context(), endpointA)
	require.NoError(t, err)
	assert.False(t, changed, "it was closed")
}

func testForcedProbe(t *testing.T, b *bundle) {
	probe := b.probe(t, routeA)
	_, err := b.Open(t.Context(), endpointA, time.Hour)
	require.NoError(t, err)
	assert.True(t, b.state(t, routeA).ProbeUntil.IsZero(), "its lease is void")
	assert.True(t, b.settle(t, probe.Outcome(Success)).Late)
	b.refused(t, routeA, ReasonBreakerOpen, time.Hour)

	b.advance(t, time.Hour)
	next := b.admit(t, routeA)
	require.True(t, next.Probe)
	_, err = b.Close(t.Context(), endpointA)
	require.NoError(t, err)
	assert.True(t, b.settle(t, next.Outcome(Failure)).Late)
	assert.Equal(t, StateClosed, b.state(t, routeA).State)
}
