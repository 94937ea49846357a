package reconciler

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// withShards makes all jobs from here on those of a deployment with so many shards. The leader knows only of one.
func (b *bench) withShards(shards keyspace.Shards) {
	b.t.Helper()
	store, err := jobstore.New(jobstore.Config{Redis: b.redis, Shards: shards})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = store.Close() })
	b.store = store
}

// place is where the task of a job stands: its queue in asynq.
func (b *bench) place(id string) string {
	b.t.Helper()
	record, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	return envelope.Queue(b.store.Keys(), record.Priority, record.Shard)
}

func (b *bench) listed(queue string) bool {
	return b.redis.SIsMember(b.t.Context(), envelope.AllQueues, queue).Val()
}

// A job whose task is missing gets it back in the shard that its record names, though the leader was told of none.
func TestShardsAreMended(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		b.withShards(8)
		id := b.record()
		queue := b.place(id)
		require.NotEqual(t, "bulk", queue)
		b.full()
		known, suspected := b.records.suspects[id]
		require.True(t, suspected)
		known.since = time.Now().Add(-missingFor)
		b.records.suspects[id] = known
		b.full()
		info, err := b.inspector.GetTaskInfo(queue, id)
		require.NoError(t, err)
		require.Equal(t, asynq.TaskStatePending, info.State)
		require.True(t, b.listed(queue), "workers find it")
		require.Empty(t, b.records.suspects)
		b.full()
		require.NotNil(t, b.queueOf(tasks.PriorityBulk, keyspace.Shard(queue[len("bulk:"):])))
	})
}

// A shard beyond the number goes once it has been empty for a while; one that is used, or shows something, stays.
func TestEmptyShardsGo(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		ctx := t.Context()
		// was has everything that is empty have been for long.
		was := func() {
			for _, q := range b.queues {
				if !q.emptySince.IsZero() {
					q.emptySince = time.Now().Add(-emptyFor)
				}
			}
		}
		enqueue := func(queue string, options ...asynq.Option) string {
			info, err := b.client.EnqueueContext(ctx, asynq.NewTask("completion:adhoc", []byte("{}")), append(options, asynq.Queue(queue))...)
			require.NoError(t, err)
			return info.ID
		}
		id := enqueue("bulk:5")
		enqueue("bulk")
		enqueue("elsewhere:5")
		enqueue("bulk:4", asynq.Group("a tenant's lane"))
		b.full()
		was()
		b.full()
		require.True(t, b.listed("bulk:5"), "it is not empty")
		require.NoError(t, b.inspector.DeleteTask("bulk:5", id))
		require.NoError(t, b.inspector.DeleteTask("bulk", b.redis.LRange(ctx, "asynq:{bulk}:pending", 0, 0).Val()[0]))
		b.full()
		require.True(t, b.listed("bulk:5"), "it was not empty for long")
		was()
		b.full()
		require.False(t, b.listed("bulk:5"))
		require.True(t, b.listed("bulk:4"), "what is in lanes counts")
		require.True(t, b.listed("bulk"), "the unsharded one stays")
		require.True(t, b.listed("elsewhere:5"), "it is another deployment's")

		// The client that has listed it before does not do so again.
		enqueue("bulk:5")
		require.False(t, b.listed("bulk:5"))
		b.full()
		require.False(t, b.listed("bulk:5"))
		b.strays.looked = time.Now().Add(-lookForStrays)
		b.full()
		require.True(t, b.listed("bulk:5"), "whatever is enqueued is found")
	})
}

// What pauses a queue pauses every shard that it can have; resumed in asynq's console, which shows the listed ones only,
// none stays behind for the day on which it is used.
func TestPausesLeftBehindGo(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		ctx, keys := t.Context(), b.store.Keys()
		pause := func(shard keyspace.Shard) {
			require.NoError(t, b.redis.Set(ctx, keys.QueuePaused("bulk", shard), 1, 0).Err())
		}
		paused := func(shard keyspace.Shard) bool {
			return b.redis.Exists(ctx, keys.QueuePaused("bulk", shard)).Val() > 0
		}
		look := func() {
			b.strays.looked = time.Time{}
			b.full()
		}
		pause(keyspace.Unsharded)
		pause("3")
		look()
		look()
		require.True(t, paused("3"), "its queue is paused")
		require.NoError(t, b.redis.Del(ctx, keys.QueuePaused("bulk", keyspace.Unsharded)).Err())
		look()
		require.True(t, paused("3"), "it may be about to be")
		look()
		require.False(t, paused("3"))
		require.NoError(t, b.redis.SAdd(ctx, envelope.AllQueues, "bulk:3").Err())
		pause("3")
		look()
		look()
		require.True(t, paused("3"), "a console has paused what it shows")
	})
}

// All of it runs on a cluster, whose slots the scripts do not cross.
func TestShardsOnACluster(t *testing.T) {
	t.Parallel()
	cluster, _ := redistest.Cluster(t)
	b := newBench(t, cluster)
	b.withShards(16)
	var ids []string
	for range 20 {
		ids = append(ids, b.queued())
	}
	b.full()
	b.strays.looked = time.Time{}
	b.full()
	require.Empty(t, b.records.suspects)
	for _, id := range ids {
		info, err := b.inspector.GetTaskInfo(b.place(id), id)
		require.NoError(t, err)
		require.Equal(t, asynq.TaskStatePending, info.State)
		require.NoError(t, b.inspector.DeleteTask(b.place(id), id))
	}
	b.full()
	require.Len(t, b.records.suspects, len(ids))
}
