package worker_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// A worker that a new configuration has not reached yet leaves a job to those that know its model, and ends it only when
// nobody has known it for minutes.
func TestAJobOfANewConfigurationIsGivenBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		old := b.newWorker()
		b.catalog = testCatalog(t, func(c *catalog.Catalog) {
			price := 1.0
			c.Models["fresh"] = &catalog.Model{Output: &price, ContextWindow: 1000}
			c.Tiers[0].Models = append(c.Tiers[0].Models, "fresh")
			c.TaskTypes["fresh"] = &catalog.TaskType{Model: "fresh", Prompt: "Summarise:\n\n{{input}}"}
		})
		fresh := func(job *tasks.Job) { job.TaskType = "fresh" }
		id, unknown := b.job(fresh), b.job(fresh)
		require.Error(t, b.deliverTo(old, id))
		result := b.result(id)
		require.Equal(t, tasks.StatusQueued, result.Status)
		require.Equal(t, "no_route", result.Waiting.Reason)
		require.NoError(t, b.deliverTo(b.newWorker(), id))
		require.Equal(t, tasks.StatusSucceeded, b.result(id).Status)

		b.worker = old
		result, deliveries := b.finish(unknown)
		assert.Equal(t, tasks.StatusFailed, result.Status)
		assert.Equal(t, "no_route", result.Error.Code)
		assert.Equal(t, 20, deliveries)
	})
}

// A worker that cannot read a key keeps nobody else from the endpoint.
func TestAKeyThatIsMissingHereIsMissingHereOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		id := b.job()
		without := b.newWorker()
		require.Error(t, b.deliverTo(without, id))
		result := b.result(id)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		assert.Equal(t, "key_missing", result.Waiting.Reason)
		assert.Zero(t, result.Retries)
		assert.Empty(t, asked(result))
		for _, name := range []string{"a-1", "a-2", "b-1"} {
			assert.Equal(t, "closed", string(b.breaker(name).State))
			assert.Zero(t, b.breaker(name).Failures)
		}
		assert.Zero(t, b.sim.Counters().Total.Asked)

		b.catalog = testCatalog(t)
		require.NoError(t, b.deliverTo(b.newWorker(), id))
		assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status)
	}, func(c *catalog.Catalog) {
		c.LookupEnv = func(string) (string, bool) { return "", false }
		for _, account := range c.Accounts {
			account.KeyEnv = "NOBODY_HAS_SET_THIS"
		}
		for _, endpoint := range c.Endpoints {
			endpoint.Auth = catalog.AuthBearer
		}
	})
}
