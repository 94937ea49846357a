package asynqredis_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
)

// completing is a queue of four tasks, of which asynq's markAsComplete completes the first and the last: the second
// is no longer active, the third has lost its lease.
type completing struct{ scripts }

func newCompleting(rdb *redis.Client, queue string) completing {
	c := completing{scripts{rdb: rdb, queue: queue}}
	ctx := context.Background()
	for i := range 4 {
		id := strconv.Itoa(i)
		rdb.HSet(ctx, c.key("t:"+id), "msg", "m", "state", "active")
		if i != 1 {
			rdb.LPush(ctx, c.key("active"), id)
		}
		if i != 2 {
			rdb.ZAdd(ctx, c.key("lease"), redis.Z{Score: 1, Member: id})
		}
	}
	return c
}

func (c completing) keys(tasks ...string) []string {
	return append([]string{c.key("active"), c.key("lease"), c.key("completed"), c.key("processed:2026-11-24"), c.key("processed")}, tasks...)
}

// apart completes each task by asynq's own script, together all of them by ours.
func (c completing) apart(ctx context.Context, until int64) []error {
	var errs []error
	script := redis.NewScript(asynqredis.AsynqSources()["markAsCompleteCmd"])
	for i := range 4 {
		id := strconv.Itoa(i)
		keys := c.keys()
		keys = append(keys[:3:3], c.key("t:"+id), keys[3], keys[4])
		errs = append(errs, script.Run(ctx, c.rdb, keys, id, until, 77+i, "done "+id, int64(math.MaxInt64)).Err())
	}
	return errs
}

func (c completing) together(ctx context.Context, t *testing.T, until int64) []error {
	keys, args := c.keys(), []any{until, int64(math.MaxInt64)}
	for i := range 4 {
		keys, args = append(keys, c.key(fmt.Sprint("t:", i))), append(args, strconv.Itoa(i), 77+i, fmt.Sprint("done ", i))
	}
	replies, err := redis.NewScript(asynqredis.CompleteSource).Run(ctx, c.rdb, keys, args...).Slice()
	require.NoError(t, err)
	errs := make([]error, len(replies))
	for i, reply := range replies {
		errs[i], _ = reply.(error)
	}
	return errs
}

// state is all that a queue's keys hold.
func (c completing) state(ctx context.Context) map[string]any {
	state := map[string]any{
		"active": c.list("active"), "processed": c.rdb.Get(ctx, c.key("processed")).Val(),
		"today": c.rdb.Get(ctx, c.key("processed:2026-11-24")).Val(), "expires": c.rdb.ExpireTime(ctx, c.key("processed:2026-11-24")).Val(),
		"completed": c.rdb.ZRangeWithScores(ctx, c.key("completed"), 0, -1).Val(),
		"lease":     c.rdb.ZRangeWithScores(ctx, c.key("lease"), 0, -1).Val(),
	}
	for i := range 4 {
		state[strconv.Itoa(i)] = c.rdb.HGetAll(ctx, c.key(fmt.Sprint("t:", i))).Val()
	}
	return state
}

// What becomes of tasks that are completed together is what asynq makes of each alone.
func TestCompleteIsAsynqsMarkAsComplete(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		ctx, until := t.Context(), time.Now().Add(time.Hour).Unix()
		for name, before := range map[string]string{
			"the first ever": "", "not the first": "41", "the count is full": strconv.FormatInt(math.MaxInt64, 10),
		} {
			one, all := newCompleting(rdb, "one "+name), newCompleting(rdb, "all "+name)
			if before != "" {
				for _, c := range []completing{one, all} {
					rdb.Set(ctx, c.key("processed"), before, 0)
				}
			}
			want, got := one.apart(ctx, until), all.together(ctx, t, until)
			require.Len(t, got, len(want))
			for i := range want {
				if want[i] == nil {
					require.NoError(t, got[i], "%s: task %d", name, i)
					continue
				}
				require.EqualError(t, got[i], want[i].Error(), "%s: task %d", name, i)
				var reply redis.Error
				require.ErrorAs(t, got[i], &reply)
			}
			assert.Equal(t, one.state(ctx), all.state(ctx), name)
		}
	})
}

// What is wrong with one task is its own error.
func TestACompletionThatFailsIsNotTheOthers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		c := newCompleting(rdb, "q")
		require.NoError(t, rdb.Del(t.Context(), c.key("t:0")).Err())
		require.NoError(t, rdb.Set(t.Context(), c.key("t:0"), "no hash", 0).Err())
		errs := c.together(t.Context(), t, time.Now().Add(time.Hour).Unix())
		require.ErrorContains(t, errs[0], "WRONGTYPE")
		require.NoError(t, errs[3])
		assert.Equal(t, "done 3", rdb.HGet(t.Context(), c.key("t:3"), "msg").Val())
		assert.Equal(t, "1", rdb.Get(t.Context(), c.key("processed")).Val())
	})
}

// Tasks that end at the same time need fewer scripts than there are tasks, and all end.
func TestConcurrentCompletionsTravelTogether(t *testing.T) {
	t.Parallel()
	rdb, _ := redistest.Real(t)
	const count = 100
	w := newWorker(t, rdb, count)
	var all sync.WaitGroup
	all.Add(count)
	ids := numbered(count)
	for _, id := range ids {
		_, err := w.queue.Enqueue(asynq.NewTask("work", []byte(id)), asynq.TaskID(id), asynq.Retention(time.Hour))
		require.NoError(t, err)
	}
	faults := newFaults(rdb)
	w.serve(func(context.Context, *asynq.Task) error {
		all.Done()
		all.Wait() // so that all end at once
		return nil
	})
	require.Eventually(t, func() bool { return rdb.ZCard(t.Context(), key("completed")).Val() == count }, 10*time.Second, 10*time.Millisecond)
	w.shutdown()
	assert.Less(t, faults.completions.Load(), int64(count/2))
	assert.True(t, w.idle())
	assert.Equal(t, strconv.Itoa(count), rdb.Get(t.Context(), key("processed")).Val())
}
