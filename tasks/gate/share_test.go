package gate

import (
	"errors"
	"fmt"
	"sync"
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

func TestShared(t *testing.T) {
	t.Parallel()
	var asking shared[string, int, int]
	var mu sync.Mutex
	var gatherings [][]int
	first, release := make(chan struct{}), make(chan struct{})
	double := func(questions []int) ([]int, error) {
		mu.Lock()
		gatherings = append(gatherings, questions)
		alone := len(gatherings) == 1
		mu.Unlock()
		if alone {
			close(first)
			<-release
		}
		answers := make([]int, len(questions))
		for i, question := range questions {
			answers[i] = 2 * question
		}
		return answers, nil
	}
	var callers sync.WaitGroup
	ask := func(question int) {
		callers.Go(func() {
			answer, err := asking.ask("a", question, double)
			assert.NoError(t, err)
			assert.Equal(t, 2*question, answer)
		})
	}
	ask(0)
	<-first
	answer, err := asking.ask("b", 5, func([]int) ([]int, error) { return []int{7}, nil })
	require.NoError(t, err)
	assert.Equal(t, 7, answer, "another subject does not wait")
	for i := range 9 {
		ask(i + 1)
	}
	require.Eventually(t, func() bool {
		asking.mu.Lock()
		defer asking.mu.Unlock()
		next := asking.rooms["a"].next
		return next != nil && len(next.questions) == 9
	}, 5*time.Second, time.Millisecond)
	close(release)
	callers.Wait()
	require.Len(t, gatherings, 2, "who comes while a question is out asks with the others")
	assert.Len(t, gatherings[1], 9)
	assert.Empty(t, asking.rooms, "nothing is left behind")

	broken := errors.New("broken")
	_, err = asking.ask("a", 1, func([]int) ([]int, error) { return nil, broken })
	require.ErrorIs(t, err, broken)
	_, err = asking.ask("a", 1, func([]int) ([]int, error) { return nil, nil })
	require.ErrorIs(t, err, errReply)
}
