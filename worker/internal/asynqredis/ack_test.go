package asynqredis_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
)

// acks are asynq's scripts that end a delivery, with what makes it run them.
var acks = map[string]struct {
	sha     string
	options []asynq.Option
	err     error
	settled func(*worker) bool // whether the task is where it belongs
}{
	"done": {
		sha:     "1241eaa1c73409baaf1fea0c08d203a4911bda15",
		settled: func(w *worker) bool { return w.rdb.Exists(context.Background(), key("t:1")).Val() == 0 },
	},
	"done, unique": {
		sha:     "a2631c71357a54b4c3e7450b1757e7f3f49d6c81",
		options: []asynq.Option{asynq.Unique(time.Hour)},
		settled: func(w *worker) bool { return w.rdb.Exists(context.Background(), key("t:1")).Val() == 0 },
	},
	"complete": {
		sha:     asynqredis.CompleteSHA,
		options: []asynq.Option{asynq.Retention(time.Hour)},
		settled: func(w *worker) bool { return w.in("completed") },
	},
	"complete, unique": {
		sha:     "ce6833ccce362a8c0ee53beee413341daf52e39c",
		options: []asynq.Option{asynq.Retention(time.Hour), asynq.Unique(time.Hour)},
		settled: func(w *worker) bool { return w.in("completed") },
	},
	"retry": {
		sha:     "65fa409c88198a681c53e0892d8276eca0145694",
		err:     errors.New("again"),
		settled: func(w *worker) bool { return w.in("retry") },
	},
	"archive": {
		sha:     "9c3b1eb9947ce2ee5304ac013a0a365ec364fd2d",
		err:     asynq.SkipRetry,
		settled: func(w *worker) bool { return w.in("archived") },
	},
}

// in says whether task 1 is in the sorted set, and nowhere else.
func (w *worker) in(set string) bool {
	ctx := context.Background()
	_, err := w.rdb.ZScore(ctx, key(set), "1").Result()
	return err == nil && len(w.list("active")) == 0 && w.rdb.ZCard(ctx, key("lease")).Val() == 0
}

func TestABlipAtTheAckDoesNotRunTheTaskAgain(t *testing.T) {
	t.Parallel()
	blips := map[string]func(*faults, string){
		"before it":      func(f *faults, sha string) { f.refuse(5, sha) },
		"after it":       func(f *faults, sha string) { f.dropReplies(1, sha) },
		"during repeats": func(f *faults, sha string) { f.refuse(1, sha); f.dropReplies(3, "t:1 msg") },
	}
	for name, ack := range acks {
		for when, blip := range blips {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					rdb, _ := redistest.InBubble(t)
					faults := newFaults(rdb)
					var calls atomic.Int64
					w := newWorker(t, rdb, 2).serve(func(context.Context, *asynq.Task) error {
						calls.Add(1)
						blip(faults, ack.sha)
						return ack.err
					}, func(config *asynq.Config) {
						config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Hour }
					})
					_, err := w.queue.Enqueue(asynq.NewTask("work", []byte("1")), append(ack.options, asynq.TaskID("1"))...)
					require.NoError(t, err)
					time.Sleep(28 * time.Second) // asynq repeats every 5 s, while the lease holds
					assert.True(t, ack.settled(w), "active: %v", w.list("active"))
					assert.Equal(t, int64(1), calls.Load())
					w.shutdown()
				})
			})
		}
	}
}

// TestAnAckIsNotRepeatedIntoAnotherDelivery: the reply to a retry is lost, the task is delivered again, and then
// asynq's syncer repeats the retry.
func TestAnAckIsNotRepeatedIntoAnotherDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults := newFaults(rdb)
		var calls atomic.Int64
		w := newWorker(t, rdb, 2).serve(func(context.Context, *asynq.Task) error {
			if calls.Add(1) == 1 {
				faults.dropReplies(1, acks["retry"].sha)
				faults.refuse(1, "t:1 msg") // the repeat at once does not get through either
				return errors.New("again")
			}
			time.Sleep(20 * time.Second)
			return nil
		}, func(config *asynq.Config) {
			config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return 0 }
		})
		w.enqueue("1")
		time.Sleep(15 * time.Second)
		assert.Equal(t, []string{"1"}, w.list("active"), "the second delivery was not disturbed")
		time.Sleep(15 * time.Second)
		assert.Equal(t, int64(2), calls.Load())
		assert.True(t, w.idle())
		w.shutdown()
	})
}

// TestARepeatIsCheckedAndSentAsOne: the task changes hands between the look at it and the repeated ack.
func TestARepeatIsCheckedAndSentAsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		other := redis.NewClient(rdb.Options())
		defer func() { _ = other.Close() }()
		faults := newFaults(rdb)
		w := newWorker(t, rdb, 2)
		w.enqueue("1")
		require.Equal(t, "1", w.dequeue())
		faults.refuse(1, acks["done"].sha)
		faults.between("t:1 msg", func() { other.HSet(t.Context(), key("t:1"), "msg", "of a later delivery") })
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.ErrorIs(t, w.ackDone(ctx, "1"), redis.TxFailedErr)
		cancel()
		require.NoError(t, w.ackDone(ctx, "1"), "asynq's repeat finds that there is nothing left to do")
		assert.Equal(t, []string{"1"}, w.list("active"))
	})
}

// TestGoRedisRepeatsNothingByItself: after a broken connection a command may have been executed. Only this package
// knows how to find out.
func TestGoRedisRepeatsNothingByItself(t *testing.T) {
	t.Parallel()
	claim := redis.NewScript(asynqredis.OwnSources[0]).Hash()
	for name, sha := range map[string]string{"claim": claim, "retry": acks["retry"].sha} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rdb, wire := inBubbleOnWire(t, sha)
				var calls atomic.Int64
				w := newWorker(t, rdb, 1).serve(func(context.Context, *asynq.Task) error {
					calls.Add(1)
					return errors.New("again")
				}, func(config *asynq.Config) {
					config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Hour }
				})
				time.Sleep(time.Second)
				w.enqueue("1")
				time.Sleep(100 * time.Millisecond) // go-redis's own repeats come within 10 ms
				assert.Equal(t, int64(1), wire.sent.Load())
				time.Sleep(20 * time.Second)
				assert.Equal(t, int64(1), calls.Load())
				assert.True(t, acks["retry"].settled(w))
				w.shutdown()
			})
		})
	}
}

func TestAnAckWithACancelledContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 2)
		w.enqueue("1")
		require.Equal(t, "1", w.dequeue())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, w.ackDone(ctx, "1"))
		assert.True(t, w.idle())
		assert.Zero(t, w.busy())
	})
}

// ackDone acknowledges as asynq does.
func (w *worker) ackDone(ctx context.Context, id string) error {
	script := redis.NewScript(asynqredis.AsynqSources()["doneCmd"])
	return script.Run(ctx, w.client, []string{
		key("active"), key("lease"), key("t:" + id), key("processed:2000-01-01"),
		key("processed"),
	}, id, time.Now().Add(time.Hour).Unix(), int64(1<<62)).Err()
}

func TestAnAckWhoseTaskIsGoneIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults := newFaults(rdb)
		w := newWorker(t, rdb, 2).serve(func(ctx context.Context, _ *asynq.Task) error {
			// A reconciler took this worker for dead and gave the task to another.
			rdb.LRem(ctx, key("active"), 0, "1")
			rdb.ZRem(ctx, key("lease"), "1")
			return nil
		})
		w.enqueue("1")
		time.Sleep(time.Second)
		assert.Zero(t, w.busy())
		assert.Contains(t, w.logs.String(), "a delivery ended after its lease was lost")
		// The other worker has it now. asynq's syncer would end it there.
		require.NoError(t, rdb.LPush(t.Context(), key("active"), "1").Err())
		require.NoError(t, rdb.ZAdd(t.Context(), key("lease"), redis.Z{Member: "1", Score: 1e10}).Err())
		before := faults.sent.Load()
		time.Sleep(20 * time.Second)
		assert.Equal(t, []string{"1"}, w.list("active"))
		assert.Less(t, faults.sent.Load()-before, int64(60))
		w.shutdown()
	})
}

func TestABrokenPipelineOfAcksIsRepeatedOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		faults, seen := newFaults(rdb), &record{}
		begin := make(chan struct{})
		w := newWorker(t, rdb, 50).serve(func(ctx context.Context, task *asynq.Task) error {
			<-begin
			return seen.handler(ctx, task)
		})
		w.enqueue(numbered(50)...)
		time.Sleep(time.Second)
		// One of them is gone: its error is its own.
		require.NoError(t, rdb.ZRem(t.Context(), key("lease"), "025").Err())
		faults.dropReplies(2, acks["done"].sha)
		close(begin)
		time.Sleep(20 * time.Second)
		assert.ElementsMatch(t, numbered(50), seen.all())
		assert.Empty(t, w.list("active"))
		w.shutdown()
	})
}

func TestAcksOutliveTheScriptCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		seen := &record{}
		w := newWorker(t, rdb, 2).serve(func(ctx context.Context, task *asynq.Task) error {
			require.NoError(t, rdb.ScriptFlush(ctx).Err())
			return seen.handler(ctx, task)
		})
		w.enqueue(numbered(20)...)
		time.Sleep(20 * time.Second)
		assert.ElementsMatch(t, numbered(20), seen.all())
		assert.True(t, w.idle())
		w.shutdown()
	})
}

// TestRedisAwayExactlyAtTheAck uses a real server: stopped like a frozen machine, and killed and started again.
func TestRedisAwayExactlyAtTheAck(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*redistest.Server){
		"paused": func(s *redistest.Server) { s.Pause(); time.AfterFunc(2*time.Second, s.Resume) },
		"killed": func(s *redistest.Server) { s.Kill(); time.AfterFunc(time.Second, s.Start) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, server := redistest.Real(t, "--appendonly", "yes", "--appendfsync", "always")
			options := redistest.Options(server.Addr)
			options.ReadTimeout = 500 * time.Millisecond
			rdb := redis.NewClient(options)
			defer func() { _ = rdb.Close() }()
			seen := &record{}
			var once atomic.Bool
			w := newWorker(t, rdb, 10).serve(func(ctx context.Context, task *asynq.Task) error {
				if once.CompareAndSwap(false, true) {
					away(server)
				}
				return seen.handler(ctx, task)
			})
			for i := range 3 {
				w.enqueue(fmt.Sprint(i))
				if i == 0 {
					require.Eventually(t, once.Load, 5*time.Second, time.Millisecond)
					require.Eventually(t, func() bool { return rdb.Ping(t.Context()).Err() == nil }, 10*time.Second, 10*time.Millisecond)
				}
			}
			require.Eventually(t, func() bool { return len(seen.all()) >= 3 && w.idle() }, 20*time.Second, 10*time.Millisecond)
			w.shutdown()
			assert.ElementsMatch(t, []string{"0", "1", "2"}, seen.all(), "each was handled once")
		})
	}
}
