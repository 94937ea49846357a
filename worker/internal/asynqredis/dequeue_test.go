package asynqredis_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
	"github.com/forebay-queue/forebay/worker/internal/slots"
)

func TestAnIdleQueueWakesUpAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		called := make(chan time.Time, 1)
		w := newWorker(t, rdb, 2).serve(func(context.Context, *asynq.Task) error { called <- time.Now(); return nil })
		for i := range 20 {
			time.Sleep(time.Duration(i)*337*time.Millisecond + time.Second)
			w.enqueue(fmt.Sprint(i))
			enqueued := time.Now()
			require.Less(t, (<-called).Sub(enqueued), 5*time.Millisecond, "task %d", i)
		}
		w.shutdown()
	})
}

func TestTasksAreHandedOutInTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w, seen := newWorker(t, rdb, 1), &record{}
		w.enqueue(numbered(50)...)
		w.serve(seen.handler)
		time.Sleep(time.Second)
		assert.Equal(t, numbered(50), seen.all())
		w.shutdown()
		assert.True(t, w.idle())
	})
}

func TestAPausedQueueIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults := newFaults(rdb)
		inspector, seen := asynq.NewInspectorFromRedisClient(rdb), &record{}
		w := newWorker(t, rdb, 2).serve(seen.handler)
		time.Sleep(time.Second)
		require.NoError(t, inspector.PauseQueue("default")) // while the peek is blocked
		w.enqueue("1", "2")
		time.Sleep(3 * time.Second)
		commands := faults.sent.Load()
		time.Sleep(20 * time.Second)
		assert.Empty(t, seen.all(), "nothing runs while the queue is paused")
		assert.LessOrEqual(t, faults.sent.Load()-commands, int64(20*3), "a paused queue with tasks is not polled")
		assert.Zero(t, w.busy())
		require.NoError(t, inspector.UnpauseQueue("default"))
		time.Sleep(1100 * time.Millisecond)
		assert.ElementsMatch(t, []string{"1", "2"}, seen.all(), "it goes on within a second")
		w.shutdown()
	})
}

func TestAPauseWhileTasksAreBufferedLosesNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 3)
		w.enqueue("1", "2", "3", "4")
		require.Equal(t, "1", w.dequeue())
		require.NoError(t, asynq.NewInspectorFromRedisClient(rdb).PauseQueue("default"))
		require.Equal(t, "2", w.dequeue(), "what was claimed before the pause may still begin")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"3", "4"}, w.list("pending"), "and what did not goes back")
		w.client.Stop()
	})
}

// TestAnIdleQueueCostsFewCommands counts what clients send to a real server, asynq's heartbeat, forwarder,
// subscription and all.
func TestAnIdleQueueCostsFewCommands(t *testing.T) {
	t.Parallel()
	rdb, _ := redistest.Real(t)
	w := newWorker(t, rdb, 10).serve((&record{}).handler)
	time.Sleep(time.Second) // the start's own commands
	before := sent(t, w)
	const seconds = 5
	time.Sleep(seconds * time.Second)
	count := sent(t, w) - before - 1 // less this question itself
	t.Logf("%d commands in %d s: %.2f/s", count, seconds, float64(count)/seconds)
	assert.LessOrEqual(t, count, 3*seconds)
	w.shutdown()
}

// sent counts the commands that clients have sent: those in commandstats without those that scripts ran. The
// scripts of an idle queue are due.lua (2 ZRANGEBYSCORE, 2 EXISTS) and asynq's heartbeat (SETEX, DEL, EXPIRE).
func sent(t *testing.T, w *worker) int {
	t.Helper()
	stats, err := w.rdb.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	total := 0
	for line := range strings.Lines(stats) {
		var calls int
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		_, err := fmt.Sscanf(rest, "%d,", &calls)
		require.NoError(t, err)
		switch name {
		case "zrangebyscore", "exists", "setex", "del", "expire":
		default:
			total += calls
		}
	}
	return total
}

func TestStopEndsABlockedPeekAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 1).serve((&record{}).handler)
		time.Sleep(10 * time.Second)
		began := time.Now()
		w.shutdown()
		assert.Less(t, time.Since(began), 100*time.Millisecond)
		w.enqueue("late")
		assert.Empty(t, w.dequeue(), "a stopped client finds nothing")
		assert.Less(t, time.Since(began), 100*time.Millisecond)
	})
}

func TestAsynqsOwnShutdownDoesNotHangWithoutStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 1).serve((&record{}).handler)
		time.Sleep(10 * time.Second)
		began := time.Now()
		w.server.Shutdown()
		assert.LessOrEqual(t, time.Since(began), 5*time.Second)
	})
}

func TestAStopWhileEverySlotIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 1)
		w.enqueue(numbered(3)...)
		w.serve(func(context.Context, *asynq.Task) error { time.Sleep(20 * time.Second); return nil },
			func(config *asynq.Config) { config.ShutdownTimeout = time.Minute })
		time.Sleep(10 * time.Second)
		w.client.Stop()
		assert.Equal(t, 1, w.busy(), "what runs goes on")
		w.shutdown()
		assert.Equal(t, []string{"002", "003"}, w.list("pending"))
		assert.Empty(t, w.list("active"))
	})
}

func TestQueuesShareTheSlotsOfTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		pool, queue := slots.New(20), asynq.NewClientFromRedisClient(rdb)
		var running, most atomic.Int64
		counts := map[string]*atomic.Int64{}
		var stop []func()
		for name, weight := range map[string]int{"critical": 6, "default": 3, "bulk": 1} {
			for i := range 100 + 50*weight {
				_, err := queue.Enqueue(asynq.NewTask("work", fmt.Append(nil, i)), asynq.Queue(name))
				require.NoError(t, err)
			}
			count := new(atomic.Int64)
			counts[name] = count
			client, err := asynqredis.New(asynqredis.Config{Client: rdb, Queue: name, Lane: pool.Queue(name, weight)})
			require.NoError(t, err)
			config := asynqredis.ServerConfig(name, 20)
			config.Logger = silent{}
			server := asynq.NewServerFromRedisClient(client, config)
			require.NoError(t, server.Start(client.Handler(asynq.HandlerFunc(
				func(context.Context, *asynq.Task) error {
					most.Store(max(most.Load(), running.Add(1)))
					time.Sleep(time.Duration(100+count.Add(1)%7) * time.Millisecond)
					running.Add(-1)
					return nil
				}))))
			stop = append(stop, func() { client.Stop(); server.Shutdown() })
		}
		time.Sleep(time.Second)
		for _, count := range counts {
			count.Store(0)
		}
		time.Sleep(2 * time.Second)
		critical, ordinary, bulk := counts["critical"].Load(), counts["default"].Load(), counts["bulk"].Load()
		total := float64(critical + ordinary + bulk)
		assert.InDelta(t, 2*20*1000/103, total, 40, "every slot is busy")
		assert.InDelta(t, 0.6, float64(critical)/total, 0.03)
		assert.InDelta(t, 0.3, float64(ordinary)/total, 0.03)
		assert.InDelta(t, 0.1, float64(bulk)/total, 0.03)
		assert.Equal(t, int64(20), most.Load(), "and never more than there are")
		for _, f := range stop {
			f()
		}
		assert.Zero(t, pool.Stats().Busy)
	})
}

func TestOneQueueAloneUsesEverySlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 100)
		w.pool.Queue("critical", 6)
		w.enqueue(numbered(150)...)
		w.serve(func(context.Context, *asynq.Task) error { time.Sleep(time.Second); return nil })
		time.Sleep(500 * time.Millisecond)
		assert.Equal(t, 100, w.busy())
		assert.Len(t, w.list("active"), 100, "no more is claimed than there are slots")
		time.Sleep(2 * time.Second)
		w.shutdown()
		assert.True(t, w.idle(), "%v %v", w.list("pending"), w.list("active"))
	})
}

func TestTheServerOfAnotherQueueIsRefused(t *testing.T) {
	t.Parallel()
	rdb, _ := redistest.Embedded(t)
	w := newWorker(t, rdb, 1)
	err := w.client.EvalSha(t.Context(), "a8153319360adc71cdc370107f8ab9786f204765",
		[]string{"asynq:{bulk}:pending", "asynq:{bulk}:paused", "asynq:{bulk}:active", "asynq:{bulk}:lease"},
		0, "asynq:{bulk}:t:").Err()
	require.ErrorContains(t, err, `the client of queue "default" was asked for asynq:{bulk}:pending`)
}
