package producer_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// sharded is another client of the same deployment, which has so many shards.
func (b bundle) sharded(shards keyspace.Shards) bundle {
	b.t.Helper()
	client, err := producer.New(producer.Config{Redis: b.client, Catalog: newCatalog(b.t), Shards: shards})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = client.Close() })
	b.Client = client
	return b
}

// queuesOf are the queues of asynq in which a task stands.
func (b bundle) queuesOf(id string) (queues []string) {
	b.t.Helper()
	names, err := b.inspector.Queues()
	require.NoError(b.t, err)
	for _, name := range names {
		if _, err := b.inspector.GetTaskInfo(name, id); err == nil {
			queues = append(queues, name)
		}
	}
	return queues
}

// A job stays in the shard that it was created in, whoever deals with it later, and with however many shards.
func TestAJobKeepsItsShard(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		ctx := b.t.Context()
		four, nine := b.sharded(4), b.sharded(9)
		for i := range 20 {
			job := tasks.Job{ID: fmt.Sprint("job-", i), TaskType: "fast_summary", Input: "Water waits.", Priority: tasks.PriorityBulk}
			receipt, err := four.Enqueue(ctx, job)
			require.NoError(t, err)
			require.True(t, receipt.Created)
			queue := "bulk:" + string(keyspace.Shards(4).Of(job.ID))
			require.Equal(t, []string{queue}, b.queuesOf(job.ID))

			for _, other := range []bundle{four, nine, b} {
				receipt, err = other.Enqueue(ctx, job)
				require.NoError(t, err)
				require.False(t, receipt.Created)
				require.Equal(t, []string{queue}, b.queuesOf(job.ID), "it is not enqueued twice")
			}
			result, err := nine.Cancel(ctx, job.ID)
			require.NoError(t, err)
			require.Equal(t, tasks.StatusCancelled, result.Status)
			require.Empty(t, b.queuesOf(job.ID), "its task is gone")
			_, err = b.Reopen(ctx, job.ID)
			require.NoError(t, err)
			require.Equal(t, []string{queue}, b.queuesOf(job.ID+".2"))
			_, err = b.Cancel(ctx, job.ID)
			require.NoError(t, err)
			require.NoError(t, nine.Discard(ctx, job.ID, 0))
			require.Empty(t, b.queuesOf(job.ID+".2"))
			_, err = b.Enqueue(ctx, job)
			require.NoError(t, err)
			require.Equal(t, []string{"bulk"}, b.queuesOf(job.ID), "a new job of that id goes where its client says")
		}
	})
}

// The queues add up, and list their shards where they have any.
func TestQueuesHaveShards(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		ctx, four := b.t.Context(), b.sharded(4)
		_, err := b.Enqueue(ctx, tasks.Job{ID: "alone", TaskType: "fast_summary", Input: "x", Priority: tasks.PriorityCritical})
		require.NoError(t, err)
		for i := range 40 {
			_, err := four.Enqueue(ctx, tasks.Job{ID: fmt.Sprint("job-", i), TaskType: "fast_summary", Input: "x", Priority: tasks.PriorityBulk})
			require.NoError(t, err)
		}
		found, err := b.Queues(ctx)
		require.NoError(t, err)
		assert.NotNil(t, found.Queues[0].OldestS)
		found.Queues[0].OldestS = nil
		assert.Equal(t, producer.Queue{Queue: "critical", Pending: 1}, found.Queues[0])
		assert.Equal(t, producer.Queue{Queue: "default"}, found.Queues[1])
		bulk := found.Queues[2]
		assert.Equal(t, 40, bulk.Pending)
		require.Len(t, bulk.Shards, 4)
		sum := 0
		for i, shard := range bulk.Shards {
			assert.Equal(t, fmt.Sprint("bulk:", i), shard.Shard)
			sum += shard.Pending
		}
		assert.Equal(t, 40, sum)

		changed, err := b.PauseQueue(ctx, "bulk", true)
		require.NoError(t, err)
		assert.True(t, changed)
		require.NoError(t, b.inspector.UnpauseQueue("bulk:2"))
		_, err = b.PauseTaskType(ctx, "fast_summary", true)
		require.NoError(t, err)
		found, err = b.Queues(ctx)
		require.NoError(t, err)
		assert.True(t, found.Queues[2].Paused)
		for i, shard := range found.Queues[2].Shards {
			assert.Equal(t, i != 2, shard.Paused, shard.Shard)
		}
		_, err = b.PauseQueue(ctx, "bulk", false)
		require.NoError(t, err)
		require.NoError(t, b.inspector.PauseQueue("bulk:1"))
		found, err = b.Queues(ctx)
		require.NoError(t, err)
		assert.False(t, found.Queues[2].Paused)
		assert.True(t, found.Queues[2].Shards[1].Paused)
	})
}
