package jobstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// batch is one of so many members, which wait.
func (b bundle) batch(t testing.TB, total int) (id string, members []string) {
	t.Helper()
	id = batches.NewID()
	_, err := b.Batches().Create(t.Context(), batches.Batch{ID: id, Tenant: "default", Kind: batches.KindRun})
	require.NoError(t, err)
	require.NoError(t, b.Batches().Begin(t.Context(), id, total))
	for number := range total {
		job := b.job()
		job.Job.ID = batches.MemberID(id, number)
		job.Job.Member = &tasks.Member{Batch: id, Number: number}
		_, err := b.Create(t.Context(), job)
		require.NoError(t, err)
		members = append(members, job.Job.ID)
	}
	return id, members
}

func (b bundle) counts(t testing.TB, id string) batches.Batch {
	t.Helper()
	batch, err := b.Batches().Get(t.Context(), id, "")
	require.NoError(t, err)
	return batch
}

// Whatever ends a job, its batch learns of it, with what it cost.
func TestMembersReportTheirEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, members := b.batch(t, 5)
		require.Equal(t, id, b.get(t, members[0]).Result().Batch)

		record, err := b.Start(ctx, members[0], Delivery{ID: "d1", Worker: "w1", Run: 1})
		require.NoError(t, err)
		commit := Commit{
			ID: members[0], Run: 1, Delivery: "d1", Status: tasks.StatusSucceeded, Record: record, Retention: time.Hour,
			Result: tasks.Result{CostUSD: 0.5, Usage: &tasks.Usage{PromptTokens: 7, CompletionTokens: 2, TotalTokens: 9}},
		}
		for range 2 { // the reply of the first may have been lost
			_, err = b.Commit(ctx, commit)
			require.NoError(t, err)
		}
		_, kept := b.placed(t, members[0])
		require.InDelta(t, batches.Kept.Hours(), kept.Hours(), 1, "until its answer is written")

		_, err = b.Cancel(ctx, members[1], "")
		require.NoError(t, err)
		done, err := b.Reap(ctx, b.get(t, members[2]), tasks.StatusFailed, tasks.Failure{Class: tasks.ClassInternal, Code: "x", Message: "x"}, time.Now())
		require.NoError(t, err)
		require.True(t, done)
		done, err = b.Reap(ctx, b.get(t, members[3]), tasks.StatusExpired, tasks.Failure{Class: tasks.ClassExpired, Code: "x", Message: "x"}, time.Now())
		require.NoError(t, err)
		require.True(t, done)
		batch := b.counts(t, id)
		require.Equal(t, batches.Counts{Succeeded: 1, Failed: 1, Cancelled: 1, Expired: 1}, batch.Counts)
		require.InDelta(t, 0.5, batch.CostUSD, 1e-9)
		require.Equal(t, batches.Usage{PromptTokens: 7, CompletionTokens: 2, TotalTokens: 9}, batch.Usage)

		_, err = b.Reopen(ctx, members[2])
		require.NoError(t, err)
		require.Equal(t, 0, b.counts(t, id).Counts.Failed)
		_, err = b.Cancel(ctx, members[2], "")
		require.NoError(t, err)
		require.Equal(t, 2, b.counts(t, id).Counts.Cancelled)

		require.NoError(t, b.Release(ctx, members, time.Minute))
		_, kept = b.placed(t, members[0])
		require.InDelta(t, time.Minute.Seconds(), kept.Seconds(), 5)
		_, kept = b.placed(t, members[4])
		require.Negative(t, kept, "it has not ended")
	})
}

// What its end should have set off is done by whoever finds the job ended.
func TestEndedMemberIsReportedAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, members := b.batch(t, 2)
		for _, member := range members {
			_, err := b.Start(ctx, member, Delivery{ID: "d1", Worker: "w1", Run: 1})
			require.NoError(t, err)
			// Without its record the batch does not learn of the end, as after a crash between the two.
			_, err = b.Commit(ctx, Commit{ID: member, Run: 1, Delivery: "d1", Status: tasks.StatusSucceeded, Result: tasks.Result{Usage: &tasks.Usage{PromptTokens: 3}}})
			require.NoError(t, err)
		}
		require.Equal(t, 0, b.counts(t, id).Counts.Ended())
		require.NoError(t, b.Report(ctx, b.get(t, members[0])))
		_, err := b.Cancel(ctx, members[1], "")
		require.NoError(t, err)
		batch := b.counts(t, id)
		require.Equal(t, batches.Counts{Succeeded: 2}, batch.Counts)
		require.Equal(t, int64(6), batch.Usage.PromptTokens)
		require.Equal(t, batches.StatusCompleted, batch.Status)
	})
}

func TestRefusedMemberHasFailed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id := batches.NewID()
		_, err := b.Batches().Create(ctx, batches.Batch{ID: id, Tenant: "default", Kind: batches.KindFile})
		require.NoError(t, err)
		require.NoError(t, b.Batches().Begin(ctx, id, 1))
		job := tasks.Job{ID: batches.MemberID(id, 0), Tenant: "default", Member: &tasks.Member{Batch: id}}
		refused, err := b.Refuse(ctx, Refusal{What: "line 1", Job: job, Failure: tasks.Failure{Class: tasks.ClassInvalid, Code: "model_not_found", Message: "no"}})
		require.NoError(t, err)
		require.True(t, refused)
		require.Equal(t, batches.Counts{Failed: 1}, b.counts(t, id).Counts)
		require.Equal(t, batches.StatusFinalizing, b.counts(t, id).Status)
		record := b.get(t, job.ID)
		require.Equal(t, job.Member, record.Job.Member)
		require.Equal(t, "model_not_found", record.Result().Error.Code)
		require.NoError(t, b.Release(ctx, []string{job.ID}, time.Minute))
		_, kept := b.placed(t, job.ID)
		require.InDelta(t, time.Minute.Seconds(), kept.Seconds(), 5)
	})
}

func TestListOfABatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, members := b.batch(t, 25)
		b.created(t)
		_, err := b.Cancel(ctx, members[3], "")
		require.NoError(t, err)
		list := func(filter Filter, limit int) (ids []string) {
			for cursor := ""; ; {
				page, err := b.List(ctx, filter, cursor, limit)
				require.NoError(t, err)
				for _, row := range page.Jobs {
					require.Equal(t, id, row.Batch)
					ids = append(ids, row.ID)
				}
				if cursor = page.Next; cursor == "" {
					return ids
				}
			}
		}
		require.Equal(t, members, list(Filter{Batch: id}, 7))
		require.Equal(t, members, list(Filter{Batch: id, Tenant: "default"}, 100))
		require.Equal(t, []string{members[3]}, list(Filter{Batch: id, Statuses: []tasks.Status{tasks.StatusCancelled}}, 7))
		require.Empty(t, list(Filter{Batch: id, Tenant: "other"}, 7))
		require.Empty(t, list(Filter{Batch: "batch_none"}, 7))
		groups, err := b.Group(ctx, Filter{Batch: id}, "status")
		require.NoError(t, err)
		require.Len(t, groups.Groups, 2)
		require.Equal(t, 24, groups.Groups[0].Jobs)
		_, err = b.List(ctx, Filter{Batch: "a b"}, "", 7)
		require.ErrorIs(t, err, tasks.ErrInvalidJob)
	})
}

func TestGetMany(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		id := b.created(b.t)
		records, err := b.GetMany(b.t.Context(), []string{"none", id})
		require.NoError(b.t, err)
		require.Nil(b.t, records[0])
		require.Equal(b.t, id, records[1].ID)
	})
}
