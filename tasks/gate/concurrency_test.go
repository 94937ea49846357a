package gate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestEveryConcurrentOutcomeIsCounted(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	settings := testSettings
	settings.Failures = 1 << 30 // every report is of generation 0
	b := newBundle(realStoreOf(client), settings)

	const goroutines, outcomes = 64, 20_000
	counts := map[Effect]*atomic.Int64{Success: {}, Failure: {}, Ignore: {}}
	var duplicates, again atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			for i := g; i < outcomes; i += goroutines {
				effect := []Effect{Success, Success, Failure, Ignore}[random.IntN(4)]
				outcome := Outcome{
					Route: routeA, Token: fmt.Sprintf("attempt-%d", i), Effect: effect, Latency: time.Duration(1+random.IntN(1000)) * time.Millisecond,
				}
				counts[effect].Add(1)
				transition, err := b.Settle(context.Background(), outcome)
				if !assert.NoError(t, err) || !assert.False(t, transition.Duplicate || transition.Late) {
					return
				}
				if random.IntN(10) == 0 {
					again.Add(1)
					transition, err = b.Settle(context.Background(), outcome)
					if assert.NoError(t, err) && transition.Duplicate {
						duplicates.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()

	state := b.state(t, routeA)
	assert.EqualValues(t, outcomes, state.Calls)
	assert.Equal(t, counts[Success].Load(), state.Successes)
	assert.Equal(t, counts[Failure].Load(), state.Failures)
	assert.Equal(t, again.Load(), duplicates.Load())
	assert.True(t, state.Latency >= time.Millisecond && state.Latency <= time.Second, "%s", state.Latency)
}

// A fleet that hammers a half-open endpoint sends one probe at a time.
func TestConcurrentAsksGetOneProbe(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	b := newBundle(realStoreOf(client), testSettings)
	b.trip(t, routeA)
	for round := range 20 {
		b.advance(t, testSettings.Recovery)
		admissions := make([]Admission, 64)
		var wg sync.WaitGroup
		for i := range admissions {
			wg.Go(func() {
				token := fmt.Sprintf("attempt-%d-%d", round, i)
				admission, err := b.Admit(context.Background(), routeA, asking(token))
				assert.NoError(t, err)
				admissions[i] = admission
			})
		}
		wg.Wait()
		var probes []Admission
		for _, admission := range admissions {
			if admission.Granted {
				probes = append(probes, admission)
			} else {
				assert.Equal(t, ReasonProbeOut, admission.Reason)
			}
		}
		require.Len(t, probes, 1)
		assert.Equal(t, Reopened, b.settle(t, probes[0].Outcome(Failure)).Change)
	}
	assert.EqualValues(t, 20, b.state(t, routeA).Probes)
}

// An AutoPipeliner sends a batch again when its connection breaks, also what Redis had executed.
func TestBrokenConnectionsCountNothingTwice(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t)
	// A client of its own: the hostile one below survives its own commands.
	pipelined, err := redis.NewClient(redistest.Options(server.Addr)).AutoPipeline()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pipelined.Close() })
	settings := testSettings
	settings.Failures = 1 << 30
	b := newBundle(realStoreOf(client), settings)
	worker := New(pipelined, b.keys, &catalog.Catalog{Breaker: settings})

	ctx, stop := context.WithCancel(t.Context())
	var hostile, workers sync.WaitGroup
	hostile.Go(func() {
		for ctx.Err() == nil {
			_ = client.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err()
			time.Sleep(5 * time.Millisecond)
		}
	})
	const goroutines, outcomes = 32, 4_000
	var duplicates, failed atomic.Int64
	for g := range goroutines {
		workers.Go(func() {
			for i := g; i < outcomes; i += goroutines {
				outcome := Outcome{Route: routeA, Token: fmt.Sprintf("attempt-%d", i), Effect: Failure}
				transition, err := worker.Settle(context.Background(), outcome)
				for ; err != nil; transition, err = worker.Settle(context.Background(), outcome) {
					failed.Add(1)
				}
				if transition.Duplicate {
					duplicates.Add(1)
				}
			}
		})
	}
	workers.Wait()
	stop()
	hostile.Wait()
	state := b.state(t, routeA)
	assert.EqualValues(t, outcomes, state.Calls)
	assert.EqualValues(t, outcomes, state.ConsecutiveFailures)
	t.Logf("%d reports found themselves given already, %d calls of Settle failed and were repeated", duplicates.Load(), failed.Load())
}

func TestPipelineWithoutTheScript(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newBundle(s, testSettings)
			send := func(token string) (Transition, error) {
				pipe := s.client.Pipeline()
				pending := b.PipeSettle(t.Context(), pipe, Outcome{Route: routeA, Token: token, Effect: Trip})
				commit := pipe.Set(t.Context(), b.prefix+"{elsewhere}", token, 0)
				_, _ = pipe.Exec(t.Context())
				require.NoError(t, commit.Err(), "the rest of the pipeline has run")
				return pending.Result(t.Context())
			}
			require.NoError(t, s.client.ScriptFlush(t.Context()).Err())
			transition, err := send("one")
			require.NoError(t, err)
			assert.Equal(t, Opened, transition.Change)

			require.NoError(t, s.client.ScriptFlush(t.Context()).Err())
			require.NoError(t, b.Load(t.Context()))
			transition, err = send("two")
			require.NoError(t, err)
			assert.True(t, transition.Late)
			assert.EqualValues(t, 2, b.state(t, routeA).Calls)
		})
	}
}

// Cluster refuses a script whose keys are of several slots, and a pipeline goes to every node.
func TestCluster(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t, "--cluster-enabled", "yes")
	require.NoError(t, client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool {
		return client.Set(t.Context(), "ready", "yes", 0).Err() == nil
	}, 10*time.Second, 10*time.Millisecond)
	options := redistest.Options(server.Addr)
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{server.Addr}, MaintNotificationsConfig: options.MaintNotificationsConfig,
	})
	t.Cleanup(func() { _ = cluster.Close() })
	pipelined, err := cluster.AutoPipeline()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pipelined.Close() })

	for _, client := range []redis.UniversalClient{cluster, pipelined} {
		g := New(client, keyspace.New(fmt.Sprintf("cluster%T:", client)), &catalog.Catalog{Breaker: testSettings})
		require.NoError(t, g.Load(t.Context()))
		admission, err := g.Admit(t.Context(), routeA, asking("one"))
		require.NoError(t, err)
		outcome := admission.Outcome(TripAccount)
		outcome.AccountEndpoints = acmeEndpoints
		pipe := client.Pipeline()
		pending := g.PipeSettle(t.Context(), pipe, outcome)
		pipe.Set(t.Context(), "{elsewhere}", "a job's commit", 0)
		_, _ = pipe.Exec(t.Context())
		transition, err := pending.Result(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Opened, transition.Change)
		assert.Equal(t, []string{"acme-us"}, transition.OthersOpened)
		states, err := g.Endpoints(t.Context(), []Endpoint{{"acme", "acme-eu"}, {"other", "other-eu"}, {"acme", "acme-us"}})
		require.NoError(t, err)
		assert.Equal(t, []State{StateOpen, StateClosed, StateOpen}, []State{states[0].State, states[1].State, states[2].State})
	}
}
