package gate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestClosedBreakerAdmitsAndWritesNothing(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			admission := b.admit(t, routeA)
			assert.False(t, admission.Probe)
			assert.Zero(t, admission.Generation)
			assert.True(t, admission.Valid(time.Now().Add(time.Hour)), "only a probe's leave runs out")
			assert.Empty(t, b.snapshot(t))
		})
	}
}

func TestOpenBreakerLetsOneProbeThrough(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			b.trip(t, routeA)
			b.refused(t, routeA, ReasonBreakerOpen, time.Hour)
			b.refused(t, routeALike, ReasonBreakerOpen, time.Hour)
			b.admit(t, routeB)
			b.admit(t, routeOther)

			b.advance(t, 45*time.Minute)
			b.refused(t, routeA, ReasonBreakerOpen, 15*time.Minute)
			assert.Equal(t, StateOpen, b.state(t, routeA).State)

			b.advance(t, 15*time.Minute)
			assert.Equal(t, StateHalfOpen, b.state(t, routeA).State)
			first := b.admit(t, routeA)
			assert.True(t, first.Probe)
			b.advance(t, 5*time.Minute)
			b.refused(t, routeALike, ReasonProbeOut, testLease-5*time.Minute)

			b.advance(t, testLease-5*time.Minute)
			second := b.admit(t, routeA)
			assert.True(t, second.Probe, "a lease runs out by itself")
			b.refused(t, routeA, ReasonProbeOut, testLease)
			assert.EqualValues(t, 2, b.state(t, routeA).Probes)
		})
	}
}

// A client sends a command again when the connection breaks before the answer.
func TestAdmitSentTwiceIsOneProbe(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			first := b.probe(t, routeA)
			b.advance(t, 5*time.Minute)
			before := b.snapshot(t)
			again, err := b.Admit(t.Context(), routeA, asking(first.Token))
			require.NoError(t, err)
			assert.True(t, again.Granted && again.Probe)
			assert.Equal(t, before, b.snapshot(t), "the lease is the first one still")
			assert.EqualValues(t, 1, b.state(t, routeA).Probes)
		})
	}
}

func TestLongestRefusalIsNamed(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			throttled, unserved, tripped := b.admit(t, routeA), b.admit(t, routeA), b.admit(t, routeA)

			b.settle(t, throttled.Outcome(Throttle))
			b.refused(t, routeA, ReasonCooldown, 30*time.Minute)
			b.settle(t, unserved.Outcome(NotServed))
			b.refused(t, routeA, ReasonNotServed, 2*time.Hour)
			b.settle(t, tripped.Outcome(Trip))
			b.refused(t, routeA, ReasonBreakerOpen, 6*time.Hour)

			b.advance(t, 6*time.Hour)
			probe := b.admit(t, routeA)
			again := probe.Outcome(Throttle)
			again.For = 3 * time.Hour
			b.settle(t, again)
			b.refused(t, routeA, ReasonCooldown, 3*time.Hour)
			assert.Zero(t, b.state(t, routeA).ProbeUntil, "who is refused for a cooldown takes no lease")
			assert.True(t, b.admit(t, routeALike).Probe, "the other model of the endpoint may probe it")
		})
	}
}

// On a real server, in real time, for what cannot be simulated there: that its clock ends the periods.
func TestPeriodsEndByTheServersClock(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	settings := testSettings
	settings.Recovery = 150 * time.Millisecond
	b := newBundle(realStoreOf(client), settings)
	const lease = time.Second

	b.trip(t, routeA)
	refusal := b.ask(t, routeA)
	require.Equal(t, ReasonBreakerOpen, refusal.Reason)
	require.LessOrEqual(t, refusal.RetryIn, settings.Recovery)
	time.Sleep(refusal.RetryIn)
	first, err := b.Admit(t.Context(), routeA, Ask{Token: "first", Lease: lease, Priority: tasks.PriorityBulk})
	require.NoError(t, err)
	require.True(t, first.Probe, "a refused call is granted when it was told to come back")

	refusal = b.ask(t, routeA)
	require.Equal(t, ReasonProbeOut, refusal.Reason)
	require.LessOrEqual(t, refusal.RetryIn, lease)
	time.Sleep(refusal.RetryIn)
	require.False(t, first.Valid(time.Now()), "the first holder knows that its lease has run out")
	second := b.admit(t, routeA)
	require.True(t, second.Probe)

	assert.True(t, b.settle(t, first.Outcome(Success)).Late, "the lease is another's now")
	assert.Equal(t, StateHalfOpen, b.state(t, routeA).State)
	assert.Equal(t, Closed, b.settle(t, second.Outcome(Success)).Change)
}

func TestProbeIsValidForLessThanItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		g := New(client, keyspace.New(""), &catalog.Catalog{Breaker: catalog.Breaker{}})
		admission, err := g.Admit(t.Context(), routeA, Ask{Token: "one", Lease: 30 * time.Second, Priority: tasks.PriorityBulk})
		require.NoError(t, err)
		_, err = g.Settle(t.Context(), admission.Outcome(Trip))
		require.NoError(t, err)
		time.Sleep(10*time.Minute - time.Millisecond)
		admission, err = g.Admit(t.Context(), routeA, Ask{Token: "two", Lease: 30 * time.Second, Priority: tasks.PriorityBulk})
		require.NoError(t, err)
		assert.False(t, admission.Granted)
		assert.False(t, admission.Valid(time.Now()))
		assert.Equal(t, time.Millisecond, admission.RetryIn, "the default of a long recovery is 10m")
		time.Sleep(admission.RetryIn)

		asked := time.Now()
		admission, err = g.Admit(t.Context(), routeA, Ask{Token: "three", Lease: 30 * time.Second, Priority: tasks.PriorityBulk})
		require.NoError(t, err)
		require.True(t, admission.Probe)
		assert.True(t, admission.Valid(asked.Add(29*time.Second)))
		assert.False(t, admission.Valid(asked.Add(30*time.Second-time.Millisecond)))
		assert.False(t, admission.ProbeUntil.IsZero())
	})
}

func TestAdmitRefusesWhatItCannotUse(t *testing.T) {
	t.Parallel()
	g := New(redis.NewClient(redistest.Options("127.0.0.1:1")), keyspace.New(""), &catalog.Catalog{Breaker: testSettings})
	_, err := g.Admit(t.Context(), routeA, Ask{Token: "", Lease: time.Minute, Priority: tasks.PriorityBulk})
	require.ErrorContains(t, err, "admit small@acme-eu: the attempt has no token")
	_, err = g.Admit(t.Context(), routeA, Ask{Token: "one", Lease: time.Millisecond, Priority: tasks.PriorityBulk})
	require.ErrorContains(t, err, "a probe lease must last at least 10ms, got 1ms")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = g.Admit(ctx, routeA, Ask{Token: "one", Lease: time.Minute, Priority: tasks.PriorityBulk})
	require.ErrorContains(t, err, "admit small@acme-eu: ask Redis: ")
}
