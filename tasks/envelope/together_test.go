package envelope_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// trips counts round trips.
type trips struct{ made atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.made.Add(1); return next(ctx, cmd) }
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.made.Add(1); return next(ctx, cmds) }
}

// Tasks that are enqueued at the same time travel together, and each is told of its own: that it is there already, or
// that its caller has left.
func TestTogether(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *redis.Client{
		"embedded": func(t *testing.T) *redis.Client { t.Helper(); client, _ := redistest.Embedded(t); return client },
		"real":     func(t *testing.T) *redis.Client { t.Helper(); client, _ := redistest.Real(t); return client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := open(t)
			merged, together := envelope.Together(client)
			require.True(t, together)
			queue := asynq.NewClientFromRedisClient(merged)
			enqueue := func(ctx context.Context, id string) error {
				_, err := queue.EnqueueContext(ctx, asynq.NewTask("completion:adhoc", []byte(id)), asynq.TaskID(id))
				return err
			}
			require.NoError(t, enqueue(t.Context(), "twice"), "from here on the server knows the script")
			left, leave := context.WithCancel(t.Context())
			leave()
			require.ErrorContains(t, enqueue(left, "left"), "canceled")

			counter := &trips{}
			client.AddHook(counter)
			const tasks = 500
			var group sync.WaitGroup
			for i := range tasks {
				group.Go(func() {
					assert.NoError(t, enqueue(t.Context(), fmt.Sprint("task-", i)))
					assert.ErrorIs(t, enqueue(t.Context(), "twice"), asynq.ErrTaskIDConflict)
				})
			}
			group.Wait()
			require.EqualValues(t, tasks+1, client.LLen(t.Context(), "asynq:{default}:pending").Val())
			require.Less(t, counter.made.Load(), int64(tasks/2), "round trips for twice as many scripts")
		})
	}
}

func TestTogetherLeavesClustersAlone(t *testing.T) {
	t.Parallel()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { _ = cluster.Close() })
	same, together := envelope.Together(cluster)
	require.False(t, together)
	require.Same(t, redis.UniversalClient(cluster), same)
}
