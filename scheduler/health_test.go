package scheduler_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/scheduler"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// twoEndpoints is a catalog of two accounts with an endpoint each, and two tiers.
func twoEndpoints(t *testing.T) *catalog.Catalog {
	t.Helper()
	price := 1.0
	c := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"a": {}, "b": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"near": {Account: "a", URL: "http://near/v1", Region: "eu", Priority: 1, Auth: catalog.AuthNone},
			"far":  {Account: "b", URL: "http://far/v1", Region: "us", Priority: 2, Auth: catalog.AuthNone},
		},
		Models: map[string]*catalog.Model{"small": {Output: &price}, "large": {Output: &price}},
		Tiers:  []catalog.Tier{{Name: "low", Models: []string{"small", "large"}}, {Name: "high", Models: []string{"large"}}},
	}
	require.NoError(t, c.Validate())
	return c
}

// probing starts a scheduler that has endpoints probed, in a process of its own.
func (f *fleet) probing(c *catalog.Catalog, every time.Duration) (*scheduler.Scheduler, *process) {
	f.t.Helper()
	p := newProcess(f.t, f.redis)
	s, err := scheduler.New(scheduler.Config{Redis: p, Plan: scheduler.Plan{Catalog: c, HealthInterval: every}})
	require.NoError(f.t, err)
	require.NoError(f.t, s.Start(f.t.Context()))
	f.t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	return s, p
}

// probed takes health probes as a worker does, and counts them by endpoint and tick.
type probed struct {
	mutex sync.Mutex
	made  map[envelope.HealthProbe]int
}

func (f *fleet) probeWorker() *probed {
	f.t.Helper()
	p := &probed{made: map[envelope.HealthProbe]int{}}
	server := asynq.NewServerFromRedisClient(newProcess(f.t, f.redis), asynq.Config{
		Queues: map[string]int{"critical": 1}, Concurrency: 10, LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Second,
	})
	require.NoError(f.t, server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		probe, err := envelope.DecodeHealthProbe(task)
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.made[probe]++
		return err
	})))
	f.t.Cleanup(server.Shutdown)
	return p
}

// The leaders change in mid-tick, one by its death and one by leaving: each tick has one health probe of each endpoint.
func TestEachTickProbesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, c := newFleet(t, time.Minute), twoEndpoints(t)
		worker := f.probeWorker()
		first, leading := f.probing(c, time.Minute)
		f.until(time.Second, first.Leading)
		second, _ := f.probing(c, time.Minute)
		begun := time.Now()
		time.Sleep(5*time.Minute + 20*time.Second)
		leading.dead.Store(true)
		f.until(10*time.Second, second.Leading)
		third, _ := f.probing(c, time.Minute)
		time.Sleep(5 * time.Minute)
		require.NoError(t, second.Shutdown(t.Context()))
		f.until(time.Second, third.Leading)
		time.Sleep(5 * time.Minute)

		worker.mutex.Lock()
		defer worker.mutex.Unlock()
		ticks := map[string]int{}
		for probe, times := range worker.made {
			assert.Equal(t, 1, times, "%s at %s", probe.Endpoint, probe.Tick)
			assert.Zero(t, probe.Tick.Second())
			ticks[probe.Endpoint]++
		}
		passed := int(time.Now().Truncate(time.Minute).Sub(begun.Truncate(time.Minute))/time.Minute) + 1
		assert.Equal(t, map[string]int{"near": passed, "far": passed}, ticks, "none is missing")
	})
}

// A plan that takes the place of another in mid-tick probes nothing twice, has the new endpoints probed, and no longer the
// old ones.
func TestReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, c := newFleet(t, time.Minute), twoEndpoints(t)
		worker := f.probeWorker()
		s, _ := f.probing(c, time.Minute)
		f.until(time.Second, s.Leading)
		for range 5 {
			time.Sleep(7 * time.Second)
			require.NoError(t, s.Reload(scheduler.Plan{Catalog: twoEndpoints(t), HealthInterval: time.Minute}))
		}
		other := twoEndpoints(t)
		other.Endpoints = map[string]*catalog.Endpoint{
			"near": other.Endpoints["near"], "third": {Account: "a", URL: "http://third/v1", Priority: 3, Auth: catalog.AuthNone},
		}
		require.NoError(t, other.Validate())
		changed := time.Now()
		require.NoError(t, s.Reload(scheduler.Plan{Catalog: other, HealthInterval: 20 * time.Second}))
		require.ErrorContains(t, s.Reload(scheduler.Plan{HealthInterval: time.Millisecond}), "at least 1s")
		time.Sleep(59 * time.Second)
		require.NoError(t, s.Reload(scheduler.Plan{Catalog: other, HealthInterval: scheduler.NoHealthProbes}))
		ended := time.Now()
		time.Sleep(5 * time.Minute)

		worker.mutex.Lock()
		defer worker.mutex.Unlock()
		after := map[string]int{}
		for probe, times := range worker.made {
			assert.Equal(t, 1, times, "%s at %s every %s", probe.Endpoint, probe.Tick, probe.Every)
			assert.False(t, probe.Tick.After(ended))
			if probe.Every == 20*time.Second {
				after[probe.Endpoint]++
			} else {
				assert.False(t, probe.Tick.After(changed))
			}
		}
		assert.Equal(t, map[string]int{"near": 4, "third": 4}, after, "the tick that it is, and the three that come")
	})
}

// Without a worker the queue holds one health probe of each endpoint, however long that lasts.
func TestHealthProbesDoNotPileUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, c := newFleet(t, time.Minute), twoEndpoints(t)
		f.probing(c, time.Minute)
		time.Sleep(10*time.Minute + 30*time.Second)
		waiting, err := asynq.NewInspectorFromRedisClient(f.redis).ListPendingTasks("critical")
		require.NoError(t, err)
		require.Len(t, waiting, 2)
		for _, task := range waiting {
			probe, err := envelope.DecodeHealthProbe(asynq.NewTask(task.Type, task.Payload))
			require.NoError(t, err)
			assert.Equal(t, time.Now().Truncate(time.Minute).UnixMilli(), probe.Tick.UnixMilli())
		}
	})
}

func TestNoHealthProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, c := newFleet(t, time.Minute), twoEndpoints(t)
		f.probing(c, scheduler.NoHealthProbes)
		time.Sleep(5 * time.Minute)
		queues, err := asynq.NewInspectorFromRedisClient(f.redis).Queues()
		require.NoError(t, err)
		assert.Empty(t, queues)
		assert.Equal(t, "low near, high near", f.active(), "the active endpoints are published all the same")
	})
	_, err := scheduler.New(scheduler.Config{Plan: scheduler.Plan{HealthInterval: time.Millisecond}})
	require.ErrorContains(t, err, "health_interval must be at least 1s, got 1ms")
}

// active is what is published: "low near, high near".
func (f *fleet) active() string {
	f.t.Helper()
	endpoints, err := gate.ReadActive(f.t.Context(), f.redis, keyspace.New(""))
	require.NoError(f.t, err)
	slices.Reverse(endpoints) // low before high
	text := ""
	for _, active := range endpoints {
		text += fmt.Sprintf(", %s %s", active.Tier, active.Endpoint)
	}
	return text[min(2, len(text)):]
}

func TestTheActiveEndpointsArePublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, c := newFleet(t, time.Minute), twoEndpoints(t)
		standing, _ := f.probing(c, time.Minute)
		shared := gate.New(f.redis, keyspace.New(""), c)
		near, far := gate.Endpoint{Account: "a", Name: "near"}, gate.Endpoint{Account: "b", Name: "far"}
		time.Sleep(10 * time.Second)
		require.Equal(t, "low near, high near", f.active())
		before, err := gate.ReadActive(t.Context(), f.redis, keyspace.New(""))
		require.NoError(t, err)
		assert.Equal(t, "eu", before[0].Region)

		_, err = shared.Open(t.Context(), near, time.Hour)
		require.NoError(t, err)
		time.Sleep(6 * time.Second)
		require.Equal(t, "low far, high far", f.active(), "an open breaker")
		_, err = shared.Open(t.Context(), far, 2*time.Hour)
		require.NoError(t, err)
		time.Sleep(6 * time.Second)
		require.Equal(t, "low , high ", f.active(), "all are open")
		_, err = shared.Close(t.Context(), near)
		require.NoError(t, err)
		_, err = shared.Close(t.Context(), far)
		require.NoError(t, err)
		for tick := range 3 {
			_, err := shared.ReportHealth(t.Context(), gate.HealthReport{
				Endpoint: near, Tick: time.UnixMilli(int64(tick + 1)), Every: time.Hour, Effect: gate.Failure, Latency: time.Second,
			})
			require.NoError(t, err)
		}
		time.Sleep(6 * time.Second)
		require.Equal(t, "low far, high far", f.active(), "the other is behind")

		far0, err := gate.ReadActive(t.Context(), f.redis, keyspace.New(""))
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), far0[0].Since, 7*time.Second)
		require.NoError(t, standing.Shutdown(t.Context()))
		f.probing(c, time.Minute)
		time.Sleep(6 * time.Second)
		after, err := gate.ReadActive(t.Context(), f.redis, keyspace.New(""))
		require.NoError(t, err)
		assert.Equal(t, far0, after, "the next leader goes on where the last one was")
	})
}

func TestWhatNobodyConfirmsIsNotShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Minute)
		standing, _ := f.probing(twoEndpoints(t), time.Minute)
		time.Sleep(10 * time.Minute)
		require.Equal(t, "low near, high near", f.active())
		require.NoError(t, standing.Shutdown(t.Context()))
		time.Sleep(gate.ActiveKept + time.Second)
		require.Empty(t, f.active())
	})
}
