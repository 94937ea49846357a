package worker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

// served are the queues that have a server.
func (b *bench) served() []string {
	b.t.Helper()
	servers, err := asynq.NewInspectorFromRedisClient(b.redis).Servers()
	require.NoError(b.t, err)
	var names []string
	for _, server := range servers {
		for name := range server.Queues {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sharded makes all jobs from here on those of a deployment with so many shards. The worker knows only of one.
func (b *bench) sharded(shards keyspace.Shards) {
	b.t.Helper()
	var err error
	b.store, err = jobstore.New(jobstore.Config{Redis: b.redis, Shards: shards})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = b.store.Close() })
}

// enqueue makes a job with its task, as a way in does.
func (b *bench) enqueue(change ...func(*tasks.Job)) string {
	b.t.Helper()
	id := b.job(change...)
	record, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	task, options, err := envelope.New(b.store.Keys(), record.Job, record.Shard, record.Run)
	require.NoError(b.t, err)
	_, err = asynq.NewClientFromRedisClient(b.redis).EnqueueContext(b.t.Context(), task, options...)
	require.NoError(b.t, err)
	return id
}

// A worker serves the shards that it finds, also those that appear while it runs, and lets those go that have left asynq's
// list. What is not its deployment's it leaves alone.
func TestAWorkerFindsShards(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		own := []string{"bulk", "critical", "default", "webhooks"}
		require.NoError(t, b.redis.SAdd(t.Context(), envelope.AllQueues, "bulk:3", "other:bulk:1", "mail").Err())
		require.NoError(t, b.worker.Start(t.Context()))
		time.Sleep(time.Second)
		assert.Equal(t, append([]string{"bulk", "bulk:3"}, own[1:]...), b.served(), "at the start")

		b.sharded(7)
		var ids []string
		for range 20 {
			ids = append(ids, b.enqueue())
		}
		require.NoError(t, b.redis.SRem(t.Context(), envelope.AllQueues, "bulk:3").Err())
		time.Sleep(15 * time.Second)
		for _, id := range ids {
			assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status, id)
		}
		names := b.served()
		assert.NotContains(t, names, "bulk:3")
		for shard := range 7 {
			assert.Contains(t, names, fmt.Sprint("default:", shard))
		}
		assert.Subset(t, names, own)
		assert.Len(t, names, len(own)+7)
	})
}

// A paused queue is paused in every shard, and in those that come.
func TestAPausedQueueIsPausedInEveryShard(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		buttons := pauses.New(b.redis, keyspace.New(""))
		_, err := buttons.SetQueue(t.Context(), "bulk", true)
		require.NoError(t, err)
		require.NoError(t, b.worker.Start(t.Context()))
		b.sharded(3)
		var held []string
		for range 6 {
			held = append(held, b.enqueue(func(job *tasks.Job) { job.Priority = tasks.PriorityBulk }))
		}
		free := b.enqueue()
		time.Sleep(10 * time.Second)
		assert.Equal(t, tasks.StatusSucceeded, b.result(free).Status)
		for _, id := range held {
			assert.Equal(t, tasks.StatusQueued, b.result(id).Status, id)
		}
		require.Error(t, b.deliver(held[0]), "one that the pause found in a worker's hands goes back")
		assert.Equal(t, "paused", b.result(held[0]).Waiting.Reason)

		_, err = buttons.SetQueue(t.Context(), "bulk", false)
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		for _, id := range held {
			assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status, id)
		}
	})
}

// A foreign task is adopted from any shard, and its job goes where one of its id belongs.
func TestAForeignTaskInAShardIsAdopted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.worker.Start(t.Context()))
		_, err := asynq.NewClientFromRedisClient(b.redis).EnqueueContext(t.Context(),
			asynq.NewTask("completion:summary", []byte(`{"input":"Water waits."}`)), asynq.Queue("bulk:3"), asynq.TaskID("mine"))
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		record, err := b.store.Get(t.Context(), "asynq-bulk-mine")
		require.NoError(t, err)
		assert.Equal(t, tasks.StatusSucceeded, record.Status)
		assert.Equal(t, tasks.PriorityBulk, record.Priority)
		assert.Equal(t, keyspace.Unsharded, record.Shard, "the worker has one shard")
	})
}
