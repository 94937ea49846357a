package producer_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// Members wait in their tenant's lane: counted as pending, shown as a group by asynq, cancelled and discarded from there.
func TestMembersWaitInLanes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id := batches.NewID()
		_, err := b.Batches().Create(ctx, batches.Batch{ID: id, Tenant: "acme", Kind: batches.KindRun, Retention: time.Hour})
		require.NoError(t, err)
		require.NoError(t, b.Batches().Begin(ctx, id, 20))
		later := time.Now().Add(time.Hour)
		enqueue := func() {
			var jobs []tasks.Job
			for number := range 20 {
				jobs = append(jobs, tasks.Job{
					ID: batches.MemberID(id, number), TaskType: "fast_summary", Input: "text", Tenant: "acme",
					Priority: tasks.PriorityBulk, Member: &tasks.Member{Batch: id, Number: number},
				})
			}
			jobs[19].RunAt = &later
			for _, err := range b.EnqueueMany(ctx, slices.Values(jobs)) {
				require.NoError(t, err)
			}
		}
		enqueue()
		enqueue() // repeats nothing
		_, err = b.Enqueue(ctx, tasks.Job{ID: "single", TaskType: "fast_summary", Input: "text", Tenant: "acme", Priority: tasks.PriorityBulk})
		require.NoError(t, err)

		info, err := b.inspector.GetQueueInfo("bulk")
		require.NoError(t, err)
		require.Equal(t, []int{18, 2, 1}, []int{info.Aggregating, info.Pending, info.Scheduled},
			"one member wakes the workers, one has a time of its own")
		groups, err := b.inspector.Groups("bulk")
		require.NoError(t, err)
		require.Equal(t, []*asynq.GroupInfo{{Group: "acme", Size: 18}}, groups)
		queues, err := b.Queues(ctx)
		require.NoError(t, err)
		require.Equal(t, "bulk", queues.Queues[2].Queue)
		require.Equal(t, 20, queues.Queues[2].Pending, "what is in lanes can be begun as well")

		for _, number := range []int{0, 7} { // one of them was moved to pending
			member := batches.MemberID(id, number)
			result, err := b.Cancel(ctx, member)
			require.NoError(t, err)
			require.Equal(t, tasks.StatusCancelled, result.Status)
			_, err = b.inspector.GetTaskInfo("bulk", member)
			require.ErrorIs(t, err, asynq.ErrTaskNotFound, "its task has left the lane")
			require.NoError(t, b.Discard(ctx, member, 0))
		}
		reopened := batches.MemberID(id, 8)
		_, err = b.Cancel(ctx, reopened)
		require.NoError(t, err)
		_, err = b.Reopen(ctx, reopened)
		require.NoError(t, err)
		again, err := b.inspector.GetTaskInfo("bulk", fmt.Sprint(reopened, ".2"))
		require.NoError(t, err)
		require.Equal(t, asynq.TaskStateAggregating, again.State)
	})
}
