package producer_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// A batch is enqueued, cancelled half-way, run again and released.
func TestBatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id := batches.NewID()
		_, err := b.Batches().Create(ctx, batches.Batch{ID: id, Tenant: "default", Kind: batches.KindRun, Retention: time.Hour})
		require.NoError(t, err)
		require.NoError(t, b.Batches().Begin(ctx, id, 6))
		enqueue := func() {
			var jobs []tasks.Job
			for number := range 4 {
				jobs = append(jobs, tasks.Job{
					ID: batches.MemberID(id, number), TaskType: "fast_summary", Input: "text", Member: &tasks.Member{Batch: id, Number: number},
				})
			}
			for _, err := range b.EnqueueMany(ctx, slices.Values(jobs)) {
				require.NoError(t, err)
			}
		}
		enqueue()
		refused := tasks.Job{ID: batches.MemberID(id, 4), Tenant: "default", Member: &tasks.Member{Batch: id, Number: 4}}
		for range 2 {
			require.NoError(t, b.RefuseMember(ctx, "line 5", refused, tasks.Failure{Class: tasks.ClassInvalid, Code: "x", Message: "x"}))
		}
		batch, err := b.CancelBatch(ctx, id, "default")
		require.NoError(t, err)
		require.Equal(t, batches.StatusCancelled, batch.Status)
		require.Equal(t, batches.Counts{Failed: 1, Cancelled: 5}, batch.Counts, "also the one that was not enqueued yet")

		reopened, err := b.RetryBatch(ctx, id, "")
		require.NoError(t, err)
		require.Equal(t, 4, reopened)
		batch, err = b.Batches().Get(ctx, id, "")
		require.NoError(t, err)
		require.Equal(t, batches.StatusInProgress, batch.Status)
		enqueue() // repeats nothing
		results, err := b.Results(ctx, []string{batches.MemberID(id, 0), batches.MemberID(id, 5), batches.MemberID(id, 4)})
		require.NoError(t, err)
		require.Equal(t, tasks.StatusQueued, results[0].Status)
		require.Equal(t, 2, results[0].Run)
		require.Empty(t, results[1].ID)
		require.Equal(t, "x", results[2].Error.Code)

		require.NoError(t, b.ReleaseBatch(ctx, id))
		_, err = b.CancelBatch(ctx, id, "other")
		require.ErrorIs(t, err, batches.ErrNotFound)
		_, err = b.RetryBatch(context.Background(), id, "other")
		require.ErrorIs(t, err, batches.ErrNotFound)
		page, err := b.List(ctx, producer.Filter{Batch: id}, "", 0)
		require.NoError(t, err)
		require.Len(t, page.Jobs, 5)
	})
}
