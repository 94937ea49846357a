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

// oneEndpoint leaves the catalog a-1 only, with limits of its account.
func oneEndpoint(limits catalog.Limits) func(*catalog.Catalog) {
	return func(c *catalog.Catalog) {
		c.Endpoints = map[string]*catalog.Endpoint{"a-1": c.Endpoints["a-1"]}
		c.Accounts = map[string]*catalog.Account{"a": {Limits: limits}}
	}
}

// Whoever reads a job that waits on a worker's slot is told for what, and no longer once its call is out.
func TestAJobThatWaitsOnItsSlotSaysForWhat(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.finish(b.job())
		id, begun := b.job(), time.Now()
		var running sync.WaitGroup
		running.Go(func() { assert.NoError(t, b.deliver(id)) })
		time.Sleep(time.Second)

		result := b.result(id)
		assert.Equal(t, tasks.StatusRunning, result.Status)
		require.NotNil(t, result.Waiting)
		assert.Equal(t, "requests", result.Waiting.Reason)
		assert.Equal(t, "account a", result.Waiting.Limit)
		assert.Equal(t, "small@a-1", result.Waiting.Route)
		assert.WithinDuration(t, begun, result.Waiting.Since, 100*time.Millisecond)
		waits, _, _, err := b.store.Waits(t.Context(), 100)
		require.NoError(t, err)
		require.Len(t, waits, 1, "`forebay status` groups these")
		assert.Equal(t, *result.Waiting, waits[0].Waiting)

		time.Sleep(time.Until(result.Waiting.Until) + 20*time.Millisecond)
		result = b.result(id)
		require.Len(t, result.Attempts, 1)
		assert.Equal(t, tasks.StatusRunning, result.Status)
		assert.Nil(t, result.Waiting, "it is being answered")
		running.Wait()
		assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status)
	}, oneEndpoint(catalog.Limits{RequestsPerMinute: 30}))
}

// Permits are asked for anew every half a second: together that is a wait worth telling.
func TestShortWaitsInARowAreALongOne(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		route := gate.Route{Account: "a", Endpoint: "a-1", Model: "small"}
		permit, err := b.gate.Admit(t.Context(), route, gate.Ask{Token: "other", Lease: time.Minute})
		require.NoError(t, err)
		require.True(t, permit.Granted)
		id, begun := b.job(), time.Now()
		var running sync.WaitGroup
		running.Go(func() { assert.NoError(t, b.deliver(id)) })
		time.Sleep(400 * time.Millisecond)
		assert.Nil(t, b.result(id).Waiting, "a short wait is not written")
		time.Sleep(time.Second)
		waiting := b.result(id).Waiting
		require.NotNil(t, waiting)
		assert.Equal(t, "permits", waiting.Reason)
		assert.WithinDuration(t, begun, waiting.Since, 10*time.Millisecond)
		_, err = b.gate.Settle(t.Context(), permit.Outcome(gate.Release))
		require.NoError(t, err)
		running.Wait()
		assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status)
	}, oneEndpoint(catalog.Limits{Concurrency: 1}))
}
