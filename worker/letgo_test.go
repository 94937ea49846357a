package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// A health probe that brings a breaker forward brings the jobs with it: some to probe, and when that has gone well, and
// the endpoint is asked everything again, the others.
func TestJobsGoOnWithABreakerThatIsBroughtForward(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleet(t, 2, 8, []simulator.RegionConfig{{Name: "a-1", Latency: latency(100)}}, func(c *catalog.Catalog) {
			c.Endpoints = map[string]*catalog.Endpoint{"a-1": c.Endpoints["a-1"]}
			c.Breaker.Recovery = time.Hour
		})
		s.outage("a-1", "500")
		var ids []string
		for i := range 60 {
			ids = append(ids, s.enqueue(tasks.PriorityDefault, i))
		}
		time.Sleep(5 * time.Minute)
		require.Equal(t, gate.StateOpen, s.breaker("a-1").State)
		waiting := s.result(ids[59]).Waiting
		require.NotNil(t, waiting)
		require.Equal(t, "breaker_open", waiting.Reason)
		require.Greater(t, time.Until(waiting.Until), 30*time.Minute)

		s.sim.Region("a-1").ClearOutage()
		task, options, err := envelope.NewHealthProbe(s.store.Keys(), envelope.HealthProbe{
			Endpoint: "a-1", Tick: time.Now().Truncate(healthEvery), Every: healthEvery,
		})
		require.NoError(t, err)
		_, err = s.queue.Enqueue(task, options...)
		require.NoError(t, err)
		began := time.Now()
		s.await(len(ids))
		assert.Less(t, time.Since(began), time.Minute)
	})
}
