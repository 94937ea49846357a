package worker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
)

func threeRegions() []simulator.RegionConfig {
	return []simulator.RegionConfig{
		{Name: "a-1", Latency: latency(100)}, {Name: "a-2", Latency: latency(200)}, {Name: "b-1", Latency: latency(300)},
	}
}

func TestAllEndpointsDownForTenMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleet(t, 2, 16, threeRegions())
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			s.outage(endpoint, "500")
		}
		jobs := scarcityJobs(t)
		var ids []string
		for i := range jobs {
			ids = append(ids, s.enqueue(tasks.PriorityDefault, i))
		}
		time.Sleep(5 * time.Minute)
		result := s.result(ids[jobs-1])
		require.NotNil(t, result.Waiting, "%s", result.Status)
		assert.Equal(t, string(gate.ReasonBreakerOpen), result.Waiting.Reason)
		assert.Equal(t, tasks.ClassUnavailable, result.Waiting.Cause)
		time.Sleep(5 * time.Minute)
		asked := s.sim.Counters().Total.Asked
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			s.sim.Region(endpoint).ClearOutage()
		}
		began := time.Now()
		s.await(jobs)
		t.Logf("%d calls on dead endpoints; all done %s after they were back", asked, time.Since(began))
		for _, id := range ids {
			require.Equal(t, tasks.StatusSucceeded, s.result(id).Status, id)
		}
	})
}

// Where every key is refused, jobs wait, and say for what.
func TestEveryKeyRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleet(t, 2, 4, threeRegions())
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			s.outage(endpoint, "401")
		}
		var ids []string
		for i := range 100 {
			ids = append(ids, s.enqueue(tasks.PriorityDefault, i))
		}
		time.Sleep(time.Minute)
		waiting := 0
		for _, id := range ids {
			result := s.result(id)
			require.False(t, result.Status.Ended(), "%s: %v", id, result.Error)
			if result.Waiting != nil && result.Waiting.Reason == string(gate.ReasonBreakerOpen) {
				assert.Equal(t, tasks.ClassAuth, result.Waiting.Cause)
				waiting++
			}
		}
		assert.Greater(t, waiting, 80, "the others have spent a retry on a key that was refused")
		opened := map[string]int{} // by account
		for _, event := range s.redis.XRange(t.Context(), s.store.Keys().Events(), "-", "+").Val() {
			if event.Values["type"] == "breaker.opened" {
				assert.Equal(t, string(tasks.ClassAuth), event.Values["cause"])
				opened[fmt.Sprint(event.Values["account"])]++
			}
		}
		assert.Equal(t, map[string]int{"a": 1, "b": 1}, opened, "one event for each key, however many calls it refused")
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			s.sim.Region(endpoint).ClearOutage()
		}
		s.await(100)
		for _, id := range ids {
			require.Equal(t, tasks.StatusSucceeded, s.result(id).Status, id)
		}
	})
}

// Calls are given places ahead of time. Those that have one when the endpoint turns out to be dead, or the provider
// says 429, are not made.
func TestAPlaceAheadIsGivenUpWhenItLeadsNowhere(t *testing.T) {
	// The simulated provider says to come back after two seconds; the second place is one second ahead.
	for kind, closed := range map[string]time.Duration{"500": 20 * time.Second, "429": 1500 * time.Millisecond} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFleet(t, 2, 8, []simulator.RegionConfig{{Name: "a-1", Latency: latency(100)}},
					oneEndpoint(catalog.Limits{RequestsPerMinute: 60}), func(c *catalog.Catalog) { c.Breaker.Failures = 1 })
				s.outage("a-1", kind)
				for i := range 16 {
					s.enqueue(tasks.PriorityDefault, i)
				}
				time.Sleep(closed)
				assert.Equal(t, int64(1), s.sim.Counters().Total.Asked)
				s.sim.Region("a-1").ClearOutage()
				s.await(16)
			})
		})
	}
}
