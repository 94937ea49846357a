package reconciler

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// visitBulk is what happens every second.
func (b *bench) visitBulk() {
	b.t.Helper()
	require.NoError(b.t, b.round(b.t.Context(), false))
}

func TestDeadDeliveriesAreTheQueuesNext(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		first, second := b.taken("w1"), b.taken("w1")
		claimed := b.queued() // by the same worker, which died before it began
		b.claim(claimed)
		living := b.taken("w2")
		b.alive("w2")
		behind := b.queued()

		b.visitBulk()
		b.later(deadAfter - time.Second)
		b.redis.ZAdd(b.t.Context(), b.bulk.keys.lease, redis.Z{Score: float64(time.Now().Add(45 * time.Second).Unix()), Member: living})
		b.visitBulk()
		require.Empty(b.t, b.logs.String(), "nobody is dead yet")
		b.later(2 * time.Second)
		b.visitBulk()
		require.Equal(b.t, "active+leased(active)", b.places(living), "its lease has moved")
		order, err := b.redis.LRange(b.t.Context(), b.bulk.keys.pending, 0, -1).Result()
		require.NoError(b.t, err)
		require.Equal(b.t, []string{behind, claimed, second, first}, order, "asynq takes from the right")
		for _, id := range []string{first, second, claimed} {
			require.Equal(b.t, "pending(pending)", b.places(id))
			require.Equal(b.t, 1, b.said(requeued, id))
			info, err := b.inspector.GetTaskInfo("bulk", id)
			require.NoError(b.t, err)
			require.Zero(b.t, info.Retried, "no retry is spent")
		}
		record, err := b.store.Start(b.t.Context(), first, jobstore.Delivery{ID: "next", Worker: "w2"})
		require.NoError(b.t, err)
		require.Equal(b.t, 1, record.Deaths)
	})
}

// A still lease alone does not condemn a delivery whose worker lives: asynq gives up what it could not prolong for
// 30 s, while the call goes on. In the end asynq's loss is mended all the same.
func TestALivingWorkerKeepsItsDelivery(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		b.alive("w1")
		id, done := b.taken("w1"), b.taken("w1")
		_, err := b.store.Commit(b.t.Context(), jobstore.Commit{ID: done, Run: 1, Status: tasks.StatusSucceeded})
		require.NoError(b.t, err)
		b.visitBulk()
		b.later(2 * deadAfter)
		b.visitBulk()
		require.Equal(b.t, "active+leased(active)", b.places(id))
		require.Equal(b.t, "pending(pending)", b.places(done), "nobody is at work on a job that has ended")
		b.later(deadAnyway)
		b.visitBulk()
		require.Equal(b.t, "pending(pending)", b.places(id))
	})
}

// What was not watched does not count: another leader, or a Redis that was away.
func TestOnlyWhatWasWatchedCounts(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		id := b.taken("w1")
		b.visitBulk()
		b.later(2 * deadAfter)
		b.lead()
		b.visitBulk()
		require.Equal(b.t, "active+leased(active)", b.places(id), "a new leader has watched nothing")

		b.later(2 * deadAfter)
		b.bulk.leases.answered = b.bulk.leases.answered.Add(-blindFor - time.Second)
		b.visitBulk()
		require.Equal(b.t, "active+leased(active)", b.places(id), "Redis did not answer for a while")

		b.later(2 * deadAfter)
		key := b.bulk.keys.lease
		b.redis.Rename(b.t.Context(), key, key+"x")
		b.redis.Set(b.t.Context(), key, "no sorted set", 0)
		require.Error(b.t, b.round(b.t.Context(), false))
		b.redis.Rename(b.t.Context(), key+"x", key)
		b.visitBulk()
		require.Equal(b.t, "active+leased(active)", b.places(id), "a look failed")

		b.later(2 * deadAfter)
		b.visitBulk()
		require.Equal(b.t, "pending(pending)", b.places(id))
	})
}

// The worker may prolong its lease, or end its delivery, between the look and the script.
func TestTheScriptLooksOnceMore(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		moved, acked, dead := b.taken("w1"), b.taken("w1"), b.taken("w1")
		b.visitBulk()
		b.later(2 * deadAfter)
		found, err := b.dead(b.t.Context(), b.bulk)
		require.NoError(b.t, err)
		require.Len(b.t, found, 3)

		k := b.bulk.keys
		b.redis.ZIncrBy(b.t.Context(), k.lease, 5, moved)
		b.redis.LRem(b.t.Context(), k.active, 0, acked)
		b.redis.ZRem(b.t.Context(), k.lease, acked)
		b.redis.ZAdd(b.t.Context(), k.completed, redis.Z{Score: 1e10, Member: acked})
		b.redis.HSet(b.t.Context(), k.tasks+acked, "state", "completed")
		require.NoError(b.t, b.mend(b.t.Context(), b.bulk, found))
		require.Equal(b.t, "active+leased(active)", b.places(moved))
		require.Equal(b.t, "completed(completed)", b.places(acked))
		require.Equal(b.t, "pending(pending)", b.places(dead))
	})
}

// A living delivery whose lease was deleted is given one, and goes on; a dead one is requeued.
func TestALeaseDeletedInMidRun(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		id := b.taken("w1")
		b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id)
		b.full()
		score := b.redis.ZScore(b.t.Context(), b.bulk.keys.lease, id).Val()
		require.InDelta(b.t, time.Now().Unix(), score, 2, "at its end: asynq's recoverer comes 30 s later")
		b.visitBulk()
		require.NoError(b.t, b.redis.ZAddXX(b.t.Context(), b.bulk.keys.lease, redis.Z{Score: score + 30, Member: id}).Err())
		b.later(2 * deadAfter)
		b.visitBulk()
		require.Equal(b.t, "active+leased(active)", b.places(id), "asynq's heartbeat has prolonged it")
		b.later(2 * deadAfter)
		b.visitBulk()
		require.Equal(b.t, "pending(pending)", b.places(id))
	})
}
