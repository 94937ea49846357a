package worker_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// A call that has waited for its limits is made under a hold that outlives it, and gives back what it did not cost.
func TestAHoldOutlivesTheWaitForALimit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ids := []string{b.job(), b.job(), b.job()}
		var racing sync.WaitGroup
		for _, id := range ids {
			racing.Go(func() { _ = b.deliver(id) })
		}
		racing.Wait()
		_, held := b.today()
		assert.Zero(t, held)
		waited := 0
		for _, id := range ids {
			result := b.result(id)
			if result.Status != tasks.StatusSucceeded {
				continue
			}
			require.Len(t, result.Attempts, 1)
			assert.Positive(t, result.Attempts[0].Hold)
			if result.Attempts[0].StartedAt.Sub(*result.CreatedAt) > time.Second {
				waited++
			}
		}
		assert.Positive(t, waited)
	}, func(c *catalog.Catalog) {
		c.Endpoints = map[string]*catalog.Endpoint{"a-1": c.Endpoints["a-1"]}
		c.Accounts = map[string]*catalog.Account{"a": {Limits: catalog.Limits{RequestsPerMinute: 20}}}
	})
}

// A hold that was taken for one endpoint serves the next, whose calls take longer; the wait for that one's limit may be
// more than what is left of it. The call is made all the same, under another hold.
func TestAHoldThatAWaitUsesUpIsTakenAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		_, err := b.gate.Open(t.Context(), gate.Endpoint{Account: "a", Name: "a-1"}, time.Hour)
		require.NoError(t, err)
		critical := func(j *tasks.Job) { j.Priority = tasks.PriorityCritical }
		b.finish(b.job(critical))
		time.Sleep(2 * time.Second)
		id, begun := b.job(critical), time.Now()
		require.NoError(t, b.deliver(id))
		result := b.result(id)
		require.Equal(t, "b-1", asked(result), "no call was given up because its hold had ended")
		attempt := result.Attempts[0]
		assert.Greater(t, attempt.StartedAt.Sub(begun), 7*time.Second)
		assert.Equal(t, 2, attempt.Hold)
		spent, held := b.today()
		assert.InDelta(t, 2*result.CostUSD, spent, 1e-9)
		assert.Zero(t, held)
	}, func(c *catalog.Catalog) {
		delete(c.Endpoints, "a-2")
		c.Endpoints["b-1"].Timeout = 18 * time.Second
		c.Accounts["b"].Limits.RequestsPerMinute = 6
	})
}
