package gate

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whether calls are reported together or one by one, the same becomes of the endpoint.
func TestSucceedIsManySettles(t *testing.T) {
	t.Parallel()
	for name, open := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			together, apart := newBundle(open(t), testSettings), newBundle(open(t), testSettings)
			for _, b := range []*bundle{together, apart} {
				b.settle(t, b.admit(t, routeA).Outcome(Failure))
			}
			var outcomes []Outcome
			for i := range 600 {
				outcomes = append(outcomes, Outcome{
					Route: routeA, Token: fmt.Sprint(i), Effect: Success, Latency: time.Duration(i*i%977) * time.Millisecond,
				})
			}
			outcomes[7].Token = outcomes[3].Token
			for first := 0; first < len(outcomes); first += 50 {
				some := outcomes[first : first+50]
				transitions, err := together.succeed(t.Context(), some)
				require.NoError(t, err)
				for i, outcome := range some {
					assert.Equal(t, apart.settle(t, outcome), transitions[i], "report %d", first+i)
				}
			}
			want, got := apart.state(t, routeA), together.state(t, routeA)
			assert.Equal(t, want, got)
			assert.EqualValues(t, 600, got.Calls)

			transitions, err := together.succeed(t.Context(), outcomes[:50])
			require.NoError(t, err)
			for _, transition := range transitions {
				assert.True(t, transition.Duplicate, "a script that is executed again does nothing")
			}
			assert.Equal(t, want, together.state(t, routeA))
		})
	}
}

// succeed leaves to settle whatever has to do with a change of the breaker.
func TestSucceedIsForClosedBreakers(t *testing.T) {
	t.Parallel()
	b := newBundle(embeddedStore(t), testSettings)
	early := b.admit(t, routeA)
	probe := b.probe(t, routeA)
	reports := []Outcome{early.Outcome(Success), probe.Outcome(Success)}
	before := b.snapshot(t)
	for _, outcomes := range [][]Outcome{reports, reports[:1], reports[1:]} {
		transitions, err := b.succeed(t.Context(), outcomes)
		require.NoError(t, err)
		assert.Empty(t, transitions)
	}
	assert.Equal(t, before, b.snapshot(t))

	transitions, err := b.succeedAll(t.Context(), reports)
	require.NoError(t, err)
	assert.True(t, transitions[0].Late)
	assert.Equal(t, Closed, transitions[1].Change)
}

// A refusal and a probe are one attempt's own.
func TestAdmissionsAreSharedWhileNothingIsAmiss(t *testing.T) {
	t.Parallel()
	b := newBundle(embeddedStore(t), testSettings)
	asked := []question{{"one", testLease}, {"two", testLease}}
	admissions, err := b.admitAll(t.Context(), routeA, asked)
	require.NoError(t, err)
	for i, admission := range admissions {
		assert.True(t, admission.Granted)
		assert.Equal(t, asked[i].token, admission.Token)
	}

	b.trip(t, routeA)
	admissions, err = b.admitAll(t.Context(), routeA, asked)
	require.NoError(t, err)
	assert.Equal(t, ReasonBreakerOpen, admissions[0].Reason)
	assert.Zero(t, admissions[1], "asks for itself")

	b.advance(t, testSettings.Recovery)
	admissions, err = b.admitAll(t.Context(), routeA, asked)
	require.NoError(t, err)
	assert.True(t, admissions[0].Probe)
	assert.Zero(t, admissions[1], "there is one probe only")
}
