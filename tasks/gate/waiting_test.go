package gate

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

func TestPermits(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			two := catalog.Limits{Concurrency: 2}
			b := newLimitedBundle(s, limits{account: two, endpointModel: catalog.Limits{Concurrency: 1}}.catalog(testSettings))
			first := b.admit(t, routeA)
			b.refused(t, routeA, ReasonPermits, 500*time.Millisecond)
			again, err := b.Admit(t.Context(), routeA, asking(first.Token))
			require.NoError(t, err)
			require.True(t, again.Granted, "the permit is its own")
			second := b.admit(t, routeB)
			b.refused(t, routeB, ReasonPermits, 500*time.Millisecond)

			b.settle(t, second.Outcome(Failure))
			b.settle(t, second.Outcome(Failure))
			second = b.admit(t, routeB)
			b.refused(t, routeB, ReasonPermits, 500*time.Millisecond)
			b.settle(t, first.Outcome(Release))
			first = b.admit(t, routeA)

			b.advance(t, testLease)
			third, fourth := b.admit(t, routeB), b.admit(t, routeB)
			b.refused(t, routeB, ReasonPermits, 500*time.Millisecond)
			late, err := b.Admit(t.Context(), routeB, asking(second.Token))
			require.NoError(t, err)
			require.Equal(t, ReasonPermits, late.Reason, "the permit that it had has expired, and is another's now")
			b.settle(t, first.Outcome(Success))
			b.settle(t, second.Outcome(Success))
			b.refused(t, routeB, ReasonPermits, 500*time.Millisecond)
			b.settle(t, third.Outcome(Success))
			b.settle(t, fourth.Outcome(Success))
			b.admit(t, routeA)
		})
	}
}

// A permit of a place lasts from when the call may begin.
func TestPermitLastsFromTheStart(t *testing.T) {
	t.Parallel()
	limit := catalog.Limits{RequestsPerMinute: 60, Concurrency: 2}
	b := newLimitedBundle(embeddedStore(t), limits{account: limit}.catalog(testSettings))
	ask := Ask{MaxWait: time.Hour, Priority: tasks.PriorityBulk}
	b.asks(t, routeA, ask)
	place := b.asks(t, routeA, ask)
	require.Positive(t, place.StartIn)
	b.advance(t, testLease+place.StartIn-time.Millisecond)
	require.True(t, b.asks(t, routeA, ask).Granted, "the first one has expired")
	require.Equal(t, ReasonPermits, b.asks(t, routeA, ask).Reason, "the place is held still")
	b.advance(t, time.Millisecond)
	require.True(t, b.asks(t, routeA, ask).Granted)
}

// A refusal for want of a permit takes nothing of clocks, of places for the grown, or of a probe.
func TestNoPermitTakesNothingElse(t *testing.T) {
	t.Parallel()
	limit := catalog.Limits{RequestsPerMinute: 60, Concurrency: 2}
	b := newLimitedBundle(embeddedStore(t), limits{account: limit}.catalog(testSettings))
	b.asks(t, routeA, Ask{MaxWait: time.Hour, Priority: tasks.PriorityCritical})
	b.asks(t, routeA, Ask{MaxWait: time.Hour, Priority: tasks.PriorityCritical})
	before := b.snapshot(t)
	old := Ask{MaxWait: time.Hour, Priority: tasks.PriorityBulk, Waited: 10 * time.Minute}
	require.Equal(t, ReasonPermits, b.asks(t, routeA, old).Reason)
	require.Equal(t, before, b.snapshot(t))
}

// Others ask again for permits at the time that one takes to become free, at most twice a second.
func TestRetryInOfPermits(t *testing.T) {
	t.Parallel()
	b := newLimitedBundle(embeddedStore(t), limits{account: catalog.Limits{Concurrency: 4}}.catalog(testSettings))
	outcome := b.admit(t, routeA).Outcome(Success)
	outcome.Latency = 20 * time.Second
	b.settle(t, outcome)
	for range 4 {
		b.admit(t, routeA)
	}
	b.refused(t, routeA, ReasonPermits, 5*time.Second)
}

func TestFreedIsTheTurnOfTheFirstInLine(t *testing.T) {
	t.Parallel()
	b := newLimitedBundle(embeddedStore(t), limits{account: catalog.Limits{Concurrency: 1}}.catalog(testSettings))
	admission := b.admit(t, routeA)
	first, leaveFirst := b.Freed("acme")
	gone, leave := b.Freed("acme")
	second, leaveSecond := b.Freed("acme")
	other, leaveOther := b.Freed("other")
	defer leaveOther()
	defer leaveSecond()
	leave()
	b.settle(t, admission.Outcome(Success))
	<-first
	leaveFirst()
	select {
	case <-gone:
		t.Fatal("who has left has no turn")
	case <-second:
		t.Fatal("one permit is one turn")
	case <-other:
		t.Fatal("another account's calls")
	default:
	}
	b.settle(t, b.admit(t, routeB).Outcome(Success))
	<-second
}

// Without more urgent work everybody may wait the whole horizon. With it, default waits half of it and bulk a slot;
// that ends a second after the urgent work. Critical work may always wait twice as long.
func TestHorizonOfEachPriority(t *testing.T) {
	t.Parallel()
	const perMinute = 240 // slots of 0.25 s
	for _, test := range []struct {
		pressing, asking tasks.Priority
		horizon          time.Duration
	}{
		{"", tasks.PriorityCritical, 2 * horizon},
		{"", tasks.PriorityDefault, horizon},
		{"", tasks.PriorityBulk, horizon},
		{tasks.PriorityCritical, tasks.PriorityCritical, 2 * horizon},
		{tasks.PriorityCritical, tasks.PriorityDefault, horizon / 2},
		{tasks.PriorityCritical, tasks.PriorityBulk, 0},
		{tasks.PriorityDefault, tasks.PriorityDefault, horizon},
		{tasks.PriorityDefault, tasks.PriorityBulk, 0},
		{tasks.PriorityBulk, tasks.PriorityBulk, horizon},
	} {
		b := newLimitedBundle(embeddedStore(t), limits{account: catalog.Limits{RequestsPerMinute: perMinute}}.catalog(testSettings))
		slot := time.Duration(requestClock(perMinute).unit * 1000)
		press := func() {
			if test.pressing != "" {
				require.False(t, b.asks(t, routeB, Ask{Priority: test.pressing}).Granted)
			}
		}
		b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk})
		b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk})
		press()
		last := time.Duration(-1)
		for {
			place := b.asks(t, routeA, Ask{Priority: test.asking, MaxWait: time.Hour})
			if !place.Granted {
				require.Greater(t, place.RetryIn, test.horizon)
				break
			}
			require.LessOrEqual(t, place.StartIn, max(test.horizon, slot+time.Millisecond))
			last = place.StartIn
		}
		require.Greater(t, last, test.horizon-slot-time.Millisecond, "%s while %s waits", test.asking, test.pressing)

		if test.asking == tasks.PriorityBulk && test.horizon == 0 {
			b.advance(t, time.Second+time.Millisecond)
			var places int
			for b.asks(t, routeA, Ask{Priority: test.asking, MaxWait: time.Hour}).Granted {
				places++
			}
			require.Greater(t, places, 8, "a second after the last urgent one bulk has its horizon again")
		}
	}
}

// The horizon of what is pressed grows by a second in a minute, but not within ten slots after a place that went to the
// less urgent.
func TestHorizonGrowsWithAge(t *testing.T) {
	t.Parallel()
	const perMinute = 240
	slot := time.Duration(requestClock(perMinute).unit * 1000)
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newLimitedBundle(s, limits{account: catalog.Limits{RequestsPerMinute: perMinute}}.catalog(testSettings))
			critical := Ask{Priority: tasks.PriorityCritical, MaxWait: time.Hour}
			for range 2 + 4 {
				require.True(t, b.asks(t, routeA, critical).Granted)
			}
			old := func(waited time.Duration) Admission {
				return b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk, MaxWait: time.Hour, Waited: waited})
			}
			require.False(t, old(0).Granted, "the place after is more than a slot away")
			require.False(t, old(30*time.Second).Granted, "half a second does not do either")
			place := old(2 * time.Minute)
			require.True(t, place.Granted)
			require.Greater(t, place.StartIn, slot)
			require.False(t, old(time.Hour).Granted, "the next ten slots are not for those who have grown")
			if s.drift > 0 {
				return
			}
			b.advance(t, place.StartIn+10*slot-time.Millisecond)
			for range 2 + 4 {
				require.True(t, b.asks(t, routeA, critical).Granted)
			}
			require.False(t, old(time.Hour).Granted)
			b.advance(t, 2*time.Millisecond)
			require.True(t, old(time.Hour).Granted)
		})
	}
}

// Each ticket has a slot of its own, and leads back somewhat before its time.
func TestTickets(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, began := start(t), time.Now()
			near := func() float64 { // a real Redis's clock goes on meanwhile, however busy the machine is
				if s.drift == 0 {
					return float64(5 * time.Millisecond)
				}
				return float64(time.Since(began) + 5*time.Millisecond)
			}
			b := newLimitedBundle(s, limits{endpoint: catalog.Limits{RequestsPerMinute: 60}}.catalog(testSettings))
			slot := requestClock(60).unit * 1000
			require.True(t, b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk}).Granted)
			before := b.snapshot(t)
			var refused []Admission
			for range 20 {
				refused = append(refused, b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk}))
			}
			require.Equal(t, before, b.snapshot(t), "a ticket is only taken by who goes back to the queue")
			early := horizon / 2
			for i, r := range refused {
				in, err := b.Ticket(t.Context(), r)
				require.NoError(t, err)
				expected := max(0, time.Duration(slot*float64(i+1))-early)
				assert.InDelta(t, expected, in, near(), "ticket %d", i)
			}
			next := b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk})
			require.InDelta(t, slot, next.RetryIn, near(), "tickets reserve nothing")
			require.InDelta(t, 21*slot, next.TicketIn, near())
			b.advance(t, 30*time.Second)
			require.True(t, b.asks(t, routeA, Ask{}).Granted)

			breaker := Admission{Route: routeA, Reason: ReasonBreakerOpen, RetryIn: time.Minute}
			in, err := b.Ticket(t.Context(), breaker)
			require.NoError(t, err)
			require.Equal(t, time.Minute, in, "there is no line before what is no limit")
		})
	}
}

// Those who go back for want of a permit are spread by the time that a permit takes to become free.
func TestTicketsForPermits(t *testing.T) {
	t.Parallel()
	b := newLimitedBundle(embeddedStore(t), limits{account: catalog.Limits{Concurrency: 2}}.catalog(testSettings))
	outcome := b.admit(t, routeA).Outcome(Success)
	outcome.Latency = 20 * time.Second
	b.settle(t, outcome)
	b.admit(t, routeA)
	b.admit(t, routeA)
	for i := range 5 {
		refused := b.ask(t, routeA)
		require.Equal(t, ReasonPermits, refused.Reason)
		in, err := b.Ticket(t.Context(), refused)
		require.NoError(t, err)
		require.Equal(t, time.Duration(i+1)*10*time.Second-longestWait/2, in, "ticket %s", strconv.Itoa(i))
	}
}
