package producer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
)

// asynq's archive forgets: it holds 10,000 tasks, for 90 days. It is for display only: the job stays, is listed with its
// reason, and can be retried and discarded.
func TestAsynqsArchiveLosesNoDeadJob(t *testing.T) {
	t.Parallel()
	const archive = "asynq:{default}:archived"
	onBoth(t, func(b bundle) {
		ctx := b.t.Context()
		ids := []string{"aged", "crowded-out"}
		for _, id := range append(ids, "newest") {
			_, err := b.Enqueue(ctx, summary(id))
			require.NoError(b.t, err)
			b.work(b.t, id, tasks.StatusFailed)
		}
		archived := func(id string) bool {
			return b.client.ZScore(ctx, archive, envelope.TaskID(id, 1)).Err() == nil
		}
		for _, id := range ids {
			require.NoError(b.t, b.inspector.ArchiveTask("default", envelope.TaskID(id, 1)))
			require.True(b.t, archived(id))
		}
		now := time.Now()
		others := []redis.Z{{Score: float64(now.Add(-91 * 24 * time.Hour).Unix()), Member: envelope.TaskID("aged", 1)}}
		for i := range 10_000 {
			others = append(others, redis.Z{Score: float64(now.Unix() + 1), Member: fmt.Sprintf("other-%d", i)})
		}
		require.NoError(b.t, b.client.ZAdd(ctx, archive, others...).Err())
		require.NoError(b.t, b.inspector.ArchiveTask("default", envelope.TaskID("newest", 1)))
		require.False(b.t, archived("aged"), "older than 90 days")
		require.False(b.t, archived("crowded-out"), "beyond the 10,000 newest")

		dead, err := b.store.Dead(ctx)
		require.NoError(b.t, err)
		require.Equal(b.t, 3, dead.Count)
		page, err := b.List(ctx, producer.Filter{Statuses: []tasks.Status{tasks.StatusFailed}}, "", 0)
		require.NoError(b.t, err)
		require.Len(b.t, page.Jobs, 3)
		for _, id := range ids {
			require.Equal(b.t, time.Duration(-1), b.client.PTTL(ctx, b.Keys().Job(id)).Val(), "no record of a dead letter expires")
			result, err := b.Reopen(ctx, id)
			require.NoError(b.t, err)
			require.Equal(b.t, 2, result.Run)
			require.Contains(b.t, b.taskIDs(b.t, "default"), envelope.TaskID(id, 2))
			b.work(b.t, id, tasks.StatusFailed)
			require.NoError(b.t, b.Discard(ctx, id, 2))
		}
	})
}
