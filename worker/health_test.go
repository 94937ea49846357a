package worker_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const healthEvery = time.Minute

// probe hands the worker one health probe of the endpoint, for the tick that it is, and waits for it.
func (b *bench) probe(endpoint string) {
	b.t.Helper()
	require.NoError(b.t, b.worker.ProcessTask(b.t.Context(), b.healthTask(endpoint, time.Now().Truncate(healthEvery))))
	time.Sleep(15 * time.Second)
	synctest.Wait()
}

func (b *bench) healthTask(endpoint string, tick time.Time) *asynq.Task {
	b.t.Helper()
	task, _, err := envelope.NewHealthProbe(keyspace.New(""), envelope.HealthProbe{Endpoint: endpoint, Tick: tick, Every: healthEvery})
	require.NoError(b.t, err)
	return task
}

// probes hands it one each minute.
func (b *bench) probes(endpoint string, times int) {
	b.t.Helper()
	for range times {
		b.probe(endpoint)
		time.Sleep(time.Until(time.Now().Truncate(healthEvery).Add(healthEvery)))
	}
}

func (b *bench) health(endpoint string) gate.Health {
	b.t.Helper()
	found, err := b.gate.Health(b.t.Context(), []gate.Endpoint{{Account: endpoint[:1], Name: endpoint}})
	require.NoError(b.t, err)
	return found[0]
}

func withThreshold(c *catalog.Catalog) {
	c.Endpoints["a-1"].LatencyThreshold, c.Endpoints["a-1"].Tries = 50*time.Millisecond, 1
}

func TestASlowEndpointStandsBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.worker.Start(t.Context()))
		b.probes("a-1", 3)
		assert.Equal(t, 200, b.health("a-1").Status)
		b.outage("a-1", "slow-headers") // 2s, within the 5s of a health probe
		b.probes("a-1", 2)
		assert.True(t, b.health("a-1").Slow)
		assert.Equal(t, 2*time.Second, b.health("a-1").Latency)
		result, _ := b.finish(b.job())
		assert.Equal(t, "a-1", asked(result), "two in a row are not enough")
		b.probes("a-1", 1)
		assert.True(t, b.health("a-1").Behind)
		b.probes("a-2", 1)
		b.probes("b-1", 1)

		result, _ = b.finish(b.job())
		assert.Equal(t, "a-2", asked(result))
		b.outage("a-2", "500")
		b.outage("b-1", "500")
		result, _ = b.finish(b.job())
		assert.Equal(t, "a-2 a-2 b-1 a-1", asked(result), "the last one, and still asked")
		b.sim.Region("a-1").ClearOutage()
		b.sim.Region("a-2").ClearOutage()
		b.probes("a-1", 3)
		result, _ = b.finish(b.job())
		assert.Equal(t, "a-1", asked(result), "three good ones bring it back")
	}, withThreshold)
}

// A worker knows the order when it starts, and no job asks Redis for it.
func TestTheOrderIsKnownAtTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "500")
		b.probes("a-1", 3)
		other := b.newWorker()
		require.NoError(t, other.Start(t.Context()))
		id := b.job()
		require.NoError(t, b.deliverTo(other, id))
		assert.Equal(t, "a-2", asked(b.result(id)))
		assert.Zero(t, b.breaker("a-1").Calls, "health probes are no calls")
		assert.EqualValues(t, 1, b.sim.Counters().Total.Asked)
	})
}

func TestAHangingEndpointIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for endpoint, limit := range map[string]time.Duration{"a-1": 5 * time.Second, "b-1": 10 * time.Second} {
			b.outage(endpoint, "hang")
			begun := time.Now()
			require.NoError(t, b.worker.ProcessTask(t.Context(), b.healthTask(endpoint, begun.Truncate(healthEvery))))
			assert.Zero(t, time.Since(begun), "it holds no slot meanwhile")
			time.Sleep(limit - time.Millisecond)
			assert.True(t, b.health(endpoint).At.IsZero())
			time.Sleep(2 * time.Millisecond)
			health := b.health(endpoint)
			assert.EqualValues(t, 1, health.Bad)
			assert.Equal(t, tasks.ClassUnavailable, health.Class)
			assert.Equal(t, limit, health.Latency)
		}
	})
}

func TestAGoodHealthProbeBringsHalfOpenForward(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "401")
		_ = b.deliver(b.job())
		require.Equal(t, gate.StateOpen, b.breaker("a-1").State)
		require.Equal(t, gate.StateOpen, b.breaker("a-2").State, "the account's")
		b.probes("a-1", 1)
		assert.Equal(t, gate.StateOpen, b.breaker("a-1").State, "the key is still refused")
		b.sim.Region("a-1").ClearOutage()
		b.probes("a-1", 1)
		assert.Equal(t, gate.StateHalfOpen, b.breaker("a-1").State)
		assert.Equal(t, gate.StateOpen, b.breaker("a-2").State)
		result, _ := b.finish(b.job())
		assert.Equal(t, "a-1", asked(result))
		assert.True(t, result.Attempts[0].Probe, "one call tries it")
		assert.Equal(t, gate.StateClosed, b.breaker("a-1").State)
	})
}

func TestHealthProbesThatAreNotMade(t *testing.T) {
	var log bytes.Buffer
	inBubble(t, func(t *testing.T, b *bench) {
		b.log = zerolog.New(&log)
		w := b.newWorker()
		b.worker = w
		now := time.Now().Truncate(healthEvery)
		require.NoError(t, w.ProcessTask(t.Context(), b.healthTask("a-1", now.Add(-healthEvery))))
		assert.Contains(t, log.String(), "it has waited for too long")
		for range 2 {
			require.ErrorContains(t, w.ProcessTask(t.Context(), b.healthTask("gone", now)), "no such endpoint", "another worker may have it")
		}
		require.NoError(t, w.ProcessTask(t.Context(), b.healthTask("gone", now.Add(-healthEvery))), "until the next one is due")
		assert.Equal(t, 1, strings.Count(log.String(), "no such endpoint"), "told once")
		require.ErrorIs(t, w.ProcessTask(t.Context(), asynq.NewTask("health:a-1", nil)), asynq.SkipRetry)
		assert.NotContains(t, log.String(), "none of Forebay's")
		time.Sleep(20 * time.Second)
		assert.True(t, b.health("a-1").At.IsZero())

		// A key of the wrong shape is not sent: the endpoint would not take it.
		b.probe("b-1")
		assert.Empty(t, b.health("b-1").Class, "others may have the right one")
		assert.Zero(t, b.health("b-1").Status)
		assert.Contains(t, log.String(), "the endpoint's key cannot be read here; it is not probed")
		assert.NotContains(t, log.String(), "wrong-key-of-b")

		// The first signal ends what is out, at once and without a report.
		b.outage("a-1", "hang")
		require.NoError(t, w.ProcessTask(t.Context(), b.healthTask("a-1", time.Now().Truncate(healthEvery))))
		begun := time.Now()
		require.NoError(t, w.Shutdown(t.Context()))
		assert.Less(t, time.Since(begun), time.Second)
		assert.True(t, b.health("a-1").At.IsZero())
		require.ErrorContains(t, w.ProcessTask(t.Context(), b.healthTask("a-1", now)), "shuts down", "another worker makes it")
	}, func(c *catalog.Catalog) {
		c.Endpoints["b-1"].Auth = catalog.AuthBearer
		c.Accounts["b"].KeyEnv, c.Accounts["b"].KeyShape = "B_KEY", catalog.KeyShape{Prefixes: []string{"sk-"}}
		c.LookupEnv = func(string) (string, bool) { return "wrong-key-of-b", true }
	})
}

// Two workers are handed the same health probe: the tick counts once.
func TestATickCountsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "500")
		other := b.newWorker()
		task := b.healthTask("a-1", time.Now().Truncate(healthEvery))
		var both sync.WaitGroup
		both.Go(func() { assert.NoError(t, b.worker.ProcessTask(t.Context(), task)) })
		both.Go(func() { assert.NoError(t, other.ProcessTask(t.Context(), task)) })
		both.Wait()
		time.Sleep(time.Second)
		assert.EqualValues(t, 1, b.health("a-1").Bad)
	})
}
