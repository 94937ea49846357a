package asynqredis_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestASlotIsFreeAgainHoweverADeliveryEnds(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]asynq.HandlerFunc{
		"success": func(context.Context, *asynq.Task) error { return nil },
		"error":   func(context.Context, *asynq.Task) error { return errors.New("again") },
		"archive": func(context.Context, *asynq.Task) error { return asynq.SkipRetry },
		"revoke":  func(context.Context, *asynq.Task) error { return asynq.RevokeTask },
		"panic":   func(context.Context, *asynq.Task) error { panic("a handler's bug") },
		"timeout": func(ctx context.Context, _ *asynq.Task) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rdb, _ := redistest.InBubble(t)
				w := newWorker(t, rdb, 4)
				for range 20 {
					_, err := w.queue.Enqueue(asynq.NewTask("work", nil), asynq.Timeout(time.Second))
					require.NoError(t, err)
				}
				w.serve(handler, func(config *asynq.Config) {
					config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Hour }
				})
				time.Sleep(8 * time.Second)
				assert.Zero(t, w.busy())
				assert.Empty(t, w.list("active"))
				w.shutdown()
			})
		})
	}
}

func TestADeliveryWhoseDeadlineHasPassedFreesItsSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w, seen := newWorker(t, rdb, 2), &record{}
		for range 10 {
			_, err := w.queue.Enqueue(asynq.NewTask("work", nil), asynq.Deadline(time.Now().Add(-time.Minute)))
			require.NoError(t, err)
		}
		w.serve(seen.handler)
		time.Sleep(time.Second)
		assert.Empty(t, seen.all(), "asynq does not call the handler")
		assert.Zero(t, w.busy())
		assert.Empty(t, w.list("pending"))
		w.shutdown()
	})
}

// TestACancelledDeliveryKeepsItsSlotWhileItRuns: asynq frees its own, and would run another copy beside it.
func TestACancelledDeliveryKeepsItsSlotWhileItRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		var running, most, calls atomic.Int64
		w := newWorker(t, rdb, 1).serve(func(context.Context, *asynq.Task) error {
			calls.Add(1)
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(10 * time.Second) // does not look at its context
			return nil
		}, func(config *asynq.Config) {
			config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return 0 }
		})
		w.enqueue("1")
		time.Sleep(time.Second)
		require.NoError(t, asynq.NewInspectorFromRedisClient(rdb).CancelProcessing("1"))
		time.Sleep(5 * time.Second)
		assert.Equal(t, 1, w.busy())
		assert.Equal(t, []string{"1"}, w.list("pending"), "given back, and waiting for a slot")
		time.Sleep(20 * time.Second)
		assert.Equal(t, int64(2), calls.Load())
		assert.Equal(t, int64(1), most.Load())
		w.shutdown()
		assert.True(t, w.idle())
	})
}

func TestALostLeaseFreesTheSlotWithTheHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults := newFaults(rdb)
		w := newWorker(t, rdb, 2)
		w.serve(func(context.Context, *asynq.Task) error {
			faults.refuse(10, key("lease")+" xx") // asynq cannot extend the lease
			time.Sleep(50 * time.Second)
			faults.refuse(0, "")
			return nil
		})
		w.enqueue("1")
		time.Sleep(45 * time.Second)
		assert.Equal(t, 1, w.busy(), "its handler still runs")
		time.Sleep(6 * time.Second)
		assert.Zero(t, w.busy())
		w.shutdown()
	})
}

func TestAnAbortedShutdownGivesTheTaskBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 2).serve(
			func(context.Context, *asynq.Task) error { time.Sleep(time.Minute); return nil },
			func(config *asynq.Config) { config.ShutdownTimeout = 2 * time.Second })
		w.enqueue("1", "2", "3")
		time.Sleep(time.Second)
		w.client.Stop()
		w.server.Shutdown()
		assert.ElementsMatch(t, []string{"1", "2", "3"}, w.list("pending"))
		assert.Equal(t, 2, w.busy(), "the handlers still run")
		time.Sleep(time.Minute)
		assert.Zero(t, w.busy())
	})
}

// TestASlotThatAsynqDroppedComesBack stands for what nobody has thought of: a task was handed over, and neither its
// handler nor an ack followed.
func TestASlotThatAsynqDroppedComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 2)
		w.enqueue("1")
		require.Equal(t, "1", w.dequeue())
		for range 20 {
			require.Empty(t, w.dequeue())
		}
		assert.Zero(t, w.busy())
		assert.Contains(t, w.logs.String(), "asynq dropped a task without calling its handler")
	})
}
