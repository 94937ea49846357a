package asynqredis_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestAClaimTakesAsManyAsThereAreFreeSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 3)
		w.enqueue(numbered(5)...)
		assert.Equal(t, "001", w.dequeue())
		assert.Equal(t, []string{"001", "002", "003"}, w.list("active"))
		assert.Equal(t, 3, w.busy())
		assert.Equal(t, []string{"002", "003"}, []string{w.dequeue(), w.dequeue()})
		began := time.Now()
		assert.Empty(t, w.dequeue(), "no slot, no task")
		assert.LessOrEqual(t, time.Since(began), 5*time.Second)
		assert.Equal(t, "active", rdb.HGet(t.Context(), key("t:001"), "state").Val())
		assert.False(t, rdb.HExists(t.Context(), key("t:001"), "pending_since").Val())
		lease := rdb.ZScore(t.Context(), key("lease"), "001").Val()
		assert.InDelta(t, began.Add(30*time.Second).Unix(), lease, 1)
	})
}

func TestWhatAsynqDoesNotTakeGoesBackInItsOrder(t *testing.T) {
	t.Parallel()
	for name, giveBack := range map[string]func(*worker){
		"after 2 s": func(*worker) { time.Sleep(2 * time.Second); synctest.Wait() },
		"at Stop":   func(w *worker) { w.client.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rdb, _ := redistest.InBubble(t)
				w := newWorker(t, rdb, 4)
				w.enqueue(numbered(6)...)
				require.Equal(t, "001", w.dequeue())
				require.Equal(t, 4, w.busy())
				giveBack(w)
				assert.Equal(t, []string{"002", "003", "004", "005", "006"}, w.list("pending"))
				assert.Equal(t, []string{"001"}, w.list("active"))
				assert.Equal(t, 1, w.busy())
				assert.Equal(t, int64(1), rdb.ZCard(t.Context(), key("lease")).Val())
				assert.Equal(t, "pending", rdb.HGet(t.Context(), key("t:002"), "state").Val())
				since, err := rdb.HGet(t.Context(), key("t:002"), "pending_since").Int64()
				require.NoError(t, err)
				assert.InDelta(t, time.Now().UnixNano(), since, float64(time.Second))
			})
		})
	}
}

func TestGivingBackIsRepeatedWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults := newFaults(rdb)
		w := newWorker(t, rdb, 3)
		w.enqueue(numbered(3)...)
		require.Equal(t, "001", w.dequeue())
		faults.refuse(3, key("pending")+" "+key("active"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, 1, w.busy(), "the slots do not wait for Redis")
		assert.Empty(t, w.list("pending"))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"002", "003"}, w.list("pending"))
	})
}

// TestGivingBackLeavesWhatIsSomeoneElses covers a process that was frozen until its leases had expired.
func TestGivingBackLeavesWhatIsSomeoneElses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 3)
		w.enqueue(numbered(3)...)
		require.Equal(t, "001", w.dequeue())
		// Another process recovered 002 and runs it: its lease is a later one.
		later := float64(time.Now().Add(2 * time.Minute).Unix())
		require.NoError(t, rdb.ZAdd(t.Context(), key("lease"), redis.Z{Member: "002", Score: later}).Err())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"003"}, w.list("pending"))
		assert.Equal(t, []string{"001", "002"}, w.list("active"))
	})
}

func TestALostClaimReplyStrandsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults, seen := newFaults(rdb), &record{}
		w := newWorker(t, rdb, 10)
		w.enqueue(numbered(50)...)
		faults.dropReplies(3, "forebay:claim")
		w.serve(seen.handler)
		time.Sleep(3 * time.Second)
		assert.ElementsMatch(t, numbered(50), seen.all(), "every task once")
		w.shutdown()
		assert.True(t, w.idle())
	})
}

func TestALostClaimReplyAtStopStrandsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults := newFaults(rdb)
		w := newWorker(t, rdb, 3)
		w.enqueue(numbered(5)...)
		faults.dropReplies(1, "forebay:claim")
		w.serve((&record{}).handler)
		time.Sleep(time.Millisecond)
		require.Equal(t, 3, w.busy(), "the slots stay with the claim whose outcome is not known")
		w.shutdown()
		assert.Equal(t, numbered(5), w.list("pending"))
		assert.Empty(t, w.list("active"))
	})
}

func TestAClaimRefusedByRedisKeepsNoSlots(t *testing.T) {
	t.Parallel()
	rdb, _ := redistest.Real(t)
	w := newWorker(t, rdb, 10)
	w.enqueue(numbered(20)...)
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	err := w.client.EvalSha(t.Context(), "a8153319360adc71cdc370107f8ab9786f204765",
		[]string{key("pending"), key("paused"), key("active"), key("lease")}, 0, key("t:")).Err()
	require.ErrorContains(t, err, "OOM")
	assert.Zero(t, w.busy())
	assert.Equal(t, numbered(20), w.list("pending"), "a write refused at maxmemory loses nothing")
	assert.Empty(t, w.list("active"))
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	seen := &record{}
	w.serve(seen.handler)
	require.Eventually(t, func() bool { return len(seen.all()) == 20 }, 5*time.Second, time.Millisecond)
	w.shutdown()
}

// TestGivingBackAtMaxmemoryLosesNothing: what cannot be put back stays active, and its lease brings it back.
func TestGivingBackAtMaxmemoryLosesNothing(t *testing.T) {
	t.Parallel()
	rdb, _ := redistest.Real(t)
	w := newWorker(t, rdb, 3)
	w.enqueue(numbered(3)...)
	require.Equal(t, "001", w.dequeue())
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	w.client.Stop()
	assert.Contains(t, w.logs.String(), "could not be given back")
	assert.Equal(t, numbered(3), w.list("active"))
	assert.Equal(t, int64(3), rdb.ZCard(t.Context(), key("lease")).Val())
	assert.Equal(t, 1, w.busy())
}

func TestTheDeadProcesssClaimIsRecovered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		dead := newWorker(t, rdb, 10)
		dead.enqueue(numbered(10)...)
		for range 10 { // it dies with them: what it had buffered and what ran look the same in Redis
			dead.dequeue()
		}
		seen := &record{}
		w := newWorker(t, rdb, 10).serve(seen.handler, func(config *asynq.Config) {
			config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return 0 }
		})
		time.Sleep(50 * time.Second)
		assert.Empty(t, seen.all(), "while the leases hold, they might be running")
		time.Sleep(80 * time.Second)
		assert.ElementsMatch(t, numbered(10), seen.all())
		w.shutdown()
		assert.True(t, w.idle())
	})
}

func TestTwoWorkersShareAQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		counts, seen := [2]atomic.Int64{}, &record{}
		var workers []*worker
		for i := range 2 {
			workers = append(workers, newWorker(t, rdb, 10).serve(func(_ context.Context, task *asynq.Task) error {
				counts[i].Add(1)
				seen.add(string(task.Payload()))
				time.Sleep(100 * time.Millisecond)
				return nil
			}))
		}
		time.Sleep(time.Second)
		workers[0].enqueue(numbered(80)...)
		time.Sleep(1500 * time.Millisecond)
		assert.ElementsMatch(t, numbered(80), seen.all(), "every task once")
		assert.InDelta(t, 40, counts[0].Load(), 20)
		for _, w := range workers {
			w.shutdown()
		}
		assert.True(t, workers[0].idle())
	})
}

func TestIdsWithoutATaskAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 10)
		w.enqueue("gone", "1", "gone too", "2")
		require.NoError(t, rdb.Del(t.Context(), key("t:gone"), key("t:gone too")).Err())
		assert.Equal(t, []string{"1", "2"}, []string{w.dequeue(), w.dequeue()})
		assert.Equal(t, []string{"1", "2"}, w.list("active"))
		assert.Equal(t, 2, w.busy())
		assert.Contains(t, w.logs.String(), `"count":2,"message":"dropped ids`)
		assert.Zero(t, rdb.Exists(t.Context(), key("t:gone")).Val(), "no half a task is left behind")
	})
}

func TestATaskThatCannotBeDecodedIsSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w, seen := newWorker(t, rdb, 10), &record{}
		w.enqueue("1", "broken", "2")
		require.NoError(t, rdb.HSet(t.Context(), key("t:broken"), "msg", "no protobuf: \xff").Err())
		w.serve(seen.handler)
		time.Sleep(time.Second)
		assert.ElementsMatch(t, []string{"1", "2"}, seen.all())
		w.shutdown()
		assert.True(t, w.idle())
		assert.Equal(t, []string{"broken"}, rdb.ZRange(t.Context(), key("archived"), 0, -1).Val())
		assert.Equal(t, "archived", rdb.HGet(t.Context(), key("t:broken"), "state").Val())
		assert.Contains(t, w.logs.String(), "archived a task that cannot be decoded")
		assert.NotContains(t, w.logs.String(), "no protobuf:", "what is in a task is not logged")
	})
}

func TestAProcessWhoseClockIsBehindIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, server := redistest.InBubble(t)
		w := newWorker(t, rdb, 10)
		w.enqueue("1")
		server.SetTime(time.Now().Add(time.Minute))
		err := w.client.EvalSha(t.Context(), "a8153319360adc71cdc370107f8ab9786f204765",
			[]string{key("pending"), key("paused"), key("active"), key("lease")}, 0, key("t:")).Err()
		require.ErrorContains(t, err, "the clock of this process is behind that of Redis")
		assert.Zero(t, w.busy())
		assert.Equal(t, []string{"1"}, w.list("pending"))
	})
}

func TestOnCluster(t *testing.T) {
	t.Parallel()
	node, server := redistest.Real(t, "--cluster-enabled", "yes")
	require.NoError(t, node.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err())
	require.Eventually(t, func() bool { return node.Set(t.Context(), "x", 1, 0).Err() == nil },
		10*time.Second, 10*time.Millisecond)
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                    []string{server.Addr},
		MaintNotificationsConfig: redistest.Options("").MaintNotificationsConfig,
	})
	defer func() { _ = rdb.Close() }()
	w, seen := newWorker(t, rdb, 10), &record{}
	w.serve(seen.handler)
	w.enqueue(numbered(100)...)
	require.Eventually(t, func() bool { return len(seen.all()) == 100 && w.idle() }, 10*time.Second, time.Millisecond)
	w.shutdown()
}
