package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

func TestAPausedTaskTypeWaitsFreeOfCharge(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		buttons := pauses.New(b.redis, keyspace.New(""))
		_, err := buttons.SetTaskType(t.Context(), "summary", true)
		require.NoError(t, err)
		require.NoError(t, b.worker.Start(t.Context()))
		held, free := b.job(), b.job(func(j *tasks.Job) { j.TaskType, j.Tier = "", "low" })
		require.Error(t, b.deliver(held))
		result := b.result(held)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		require.NotNil(t, result.Waiting)
		assert.Equal(t, "paused", result.Waiting.Reason)
		assert.WithinDuration(t, time.Now().Add(5*time.Second), result.Waiting.Until, time.Second)
		assert.Zero(t, result.Retries)
		assert.Empty(t, result.Attempts)
		require.NoError(t, b.deliver(free), "other jobs go on")
		for range 8 {
			require.Error(t, b.deliver(held))
		}
		assert.WithinDuration(t, time.Now().Add(30*time.Second), b.result(held).Waiting.Until, time.Second, "a long pause costs little")

		_, err = buttons.SetTaskType(t.Context(), "summary", false)
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, b.deliver(held), "the worker heard of it at once")
		assert.Len(t, b.result(held).Attempts, 1)
	})
}

func TestAPausedQueueBeginsNoFurtherCall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "500")
		require.NoError(t, b.worker.Start(t.Context()))
		id := b.job(func(j *tasks.Job) { j.Priority = tasks.PriorityBulk })
		time.AfterFunc(50*time.Millisecond, func() { // while the first of three tries is out
			_, _ = pauses.New(b.redis, keyspace.New("")).SetQueue(t.Context(), "bulk", true)
		})
		require.Error(t, b.deliver(id))
		result := b.result(id)
		assert.Equal(t, "a-1", asked(result), "the call that is out finishes; none follows")
		assert.Equal(t, "paused", result.Waiting.Reason)
		assert.Zero(t, result.Retries)
	})
}

// A message that is lost, or a console's pause, is seen with the next heartbeat.
func TestAPauseThatNobodyAnnouncedIsSeen(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.worker.Start(t.Context()))
		require.NoError(t, b.redis.SAdd(t.Context(), keyspace.New("").PausedTaskTypes(), "summary").Err())
		time.Sleep(5*time.Second + 100*time.Millisecond)
		id := b.job()
		require.Error(t, b.deliver(id))
		assert.Equal(t, "paused", b.result(id).Waiting.Reason)
	})
}

// A job whose place at a limit is some seconds ahead, on its worker's slot, is held back as well.
func TestAPauseHoldsBackWhoWaitsForALimit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.worker.Start(t.Context()))
		require.NoError(t, b.deliver(b.job()))
		id := b.job()
		time.AfterFunc(time.Second, func() {
			_, _ = pauses.New(b.redis, keyspace.New("")).SetTaskType(t.Context(), "summary", true)
		})
		began := time.Now()
		require.Error(t, b.deliver(id))
		assert.Greater(t, time.Since(began), time.Second, "it had waited on its slot")
		result := b.result(id)
		assert.Equal(t, "paused", result.Waiting.Reason)
		assert.Empty(t, result.Attempts)
	}, func(c *catalog.Catalog) {
		for _, account := range c.Accounts {
			account.Limits.RequestsPerMinute = 20
		}
		c.Endpoints = map[string]*catalog.Endpoint{"a-1": c.Endpoints["a-1"]}
	})
}
