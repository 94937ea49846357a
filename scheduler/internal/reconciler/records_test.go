package reconciler

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// deleteTask deletes a task as asynq's console does.
func (b *bench) deleteTask(id string) {
	b.t.Helper()
	require.NoError(b.t, b.inspector.DeleteTask("bulk", id))
}

func (b *bench) indexed(id string) string {
	b.t.Helper()
	var names string
	for _, name := range []string{"open", "ended", "dead"} {
		if b.redis.ZScore(b.t.Context(), b.store.Keys().Index(keyspace.IndexShard(id), name), id).Err() == nil {
			names += name
		}
	}
	return names
}

// The way in died between the record and the task.
func TestAJobWithoutATaskIsEnqueued(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		soon := time.Now().Add(time.Hour)
		now, later := b.record(), b.record(func(job *tasks.Job) { job.RunAt = &soon })
		b.full()
		b.later(missingFor - time.Second)
		b.full()
		require.Equal(b.t, "()", b.places(now), "its way in may still be at it")
		b.later(2 * time.Second)
		b.full()
		require.Equal(b.t, "pending(pending)", b.places(now))
		require.Equal(b.t, "scheduled(scheduled)", b.places(later))
		score := b.redis.ZScore(b.t.Context(), b.bulk.keys.scheduled, later).Val()
		require.GreaterOrEqual(b.t, int64(score), soon.Unix())
		require.Equal(b.t, 1, b.said("enqueued", now))
		info, err := b.inspector.GetTaskInfo("bulk", now)
		require.NoError(b.t, err)
		require.Equal(b.t, "completion:fast_summary", info.Type)
		require.Equal(b.t, now, string(info.Payload))
		require.True(b.t, b.redis.SIsMember(b.t.Context(), envelope.AllQueues, "bulk").Val())
	})
}

func TestADeletedTaskCancelsItsJob(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		seen, delivered, unknown := b.queued(), b.taken("w1"), b.record()
		_, err := b.store.GiveBack(b.t.Context(), delivered, 1, "d-2", jobstore.GiveBack{Status: tasks.StatusRetrying})
		require.NoError(b.t, err)
		k := b.bulk.keys
		b.redis.LRem(b.t.Context(), k.active, 0, delivered)
		b.redis.ZRem(b.t.Context(), k.lease, delivered)
		b.redis.ZAdd(b.t.Context(), k.retry, redis.Z{Score: 1e10, Member: delivered})
		b.redis.HSet(b.t.Context(), k.tasks+delivered, "state", "retry")
		b.full()
		b.deleteTask(seen)
		b.deleteTask(delivered)
		for range 5 {
			b.full() // what was seen is remembered, however many looks have found nothing since
		}
		require.Equal(b.t, tasks.StatusQueued, b.get(seen).Status)
		b.later(missingFor + time.Second)
		b.full()
		for _, id := range []string{seen, delivered} {
			result := b.get(id).Result()
			require.Equal(b.t, tasks.StatusCancelled, result.Status)
			require.Equal(b.t, codeTaskDeleted, result.Error.Code)
			require.Equal(b.t, "ended", b.indexed(id))
			require.Equal(b.t, "()", b.places(id))
		}
		require.Equal(b.t, "pending(pending)", b.places(unknown), "nobody has deleted what never was")
	})
}

// asynq has ended a task, and the record has no result.
func TestATaskThatAsynqEnded(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		archived, completed := b.queued(), b.taken("w1")
		held, unreadable := b.taken("w2"), b.queued()
		b.alive("w2")
		out := tasks.Attempt{Delivery: b.get(held).Delivery, Worker: "w2", Endpoint: "e", CallDeadline: time.Now().Add(time.Minute)}
		_, err := b.store.Begin(b.t.Context(), held, 1, out)
		require.NoError(b.t, err)
		require.NoError(b.t, b.inspector.ArchiveTask("bulk", archived))
		require.NoError(b.t, b.inspector.ArchiveTask("bulk", unreadable))
		k := b.bulk.keys
		b.redis.HSet(b.t.Context(), k.tasks+unreadable, "msg", "\xff")
		for _, id := range []string{completed, held} {
			b.redis.LRem(b.t.Context(), k.active, 0, id)
			b.redis.ZRem(b.t.Context(), k.lease, id)
			b.redis.ZAdd(b.t.Context(), k.completed, redis.Z{Score: 1e10, Member: id})
			b.redis.HSet(b.t.Context(), k.tasks+id, "state", "completed")
		}
		b.full()
		b.later(missingFor + time.Second)
		b.full()
		result := b.get(archived).Result()
		require.Equal(b.t, tasks.StatusFailed, result.Status)
		require.Equal(b.t, tasks.ClassInternal, result.Error.Class)
		require.Equal(b.t, codeTaskArchived, result.Error.Code)
		require.Equal(b.t, "dead", b.indexed(archived))
		require.Equal(b.t, "pending(pending)", b.places(completed))
		require.Equal(b.t, "pending(pending)", b.places(unreadable))
		require.Equal(b.t, tasks.StatusRunning, b.get(held).Status, "its worker lives, and has a call out")
		require.Equal(b.t, "completed(completed)", b.places(held))
	})
}

// A worker has ended a delivery and lives on, and what it wrote last was lost with a master of Redis, but for its word to
// asynq. One that only takes long is left alone.
func TestALostLastWord(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		lost, gone, slow := b.taken("w1"), b.taken("w1"), b.taken("w1")
		b.alive("w1")
		k := b.bulk.keys
		for _, id := range []string{lost, slow} {
			b.redis.LRem(b.t.Context(), k.active, 0, id)
			b.redis.ZRem(b.t.Context(), k.lease, id)
			b.redis.ZAdd(b.t.Context(), k.completed, redis.Z{Score: 1e10, Member: id})
			b.redis.HSet(b.t.Context(), k.tasks+id, "state", "completed")
		}
		b.redis.LRem(b.t.Context(), k.active, 0, gone)
		b.redis.ZRem(b.t.Context(), k.lease, gone)
		b.redis.Del(b.t.Context(), k.tasks+gone)
		b.full()
		for range 2 {
			b.later(missingFor + time.Second)
			attempt := tasks.Attempt{Delivery: b.get(slow).Delivery, Worker: "w1", Endpoint: "e", CallDeadline: time.Now().Add(time.Minute)}
			_, err := b.store.Begin(b.t.Context(), slow, 1, attempt)
			require.NoError(b.t, err)
			b.alive("w1")
			b.full()
		}
		b.full()
		require.Equal(b.t, "pending(pending)", b.places(lost))
		require.Equal(b.t, "pending(pending)", b.places(gone))
		require.Equal(b.t, "completed(completed)", b.places(slow), "its worker gets on")
	})
}

// A hash that is in no list, as a script that failed half-way leaves it.
func TestATaskInNoList(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		ids := map[string]string{}
		k := b.bulk.keys
		for _, state := range []string{"pending", "active", "scheduled", "retry"} {
			ids[state] = b.taken("w1") // which died
			b.redis.HSet(b.t.Context(), k.tasks+ids[state], "state", state)
		}
		b.redis.Del(b.t.Context(), k.active, k.lease)
		wrong := b.queued() // it is where it should be, and its hash names another place
		b.redis.HSet(b.t.Context(), k.tasks+wrong, "state", "active")
		b.full()
		b.later(missingFor + time.Second)
		b.full()
		for state, id := range ids {
			require.Equal(b.t, "pending(pending)", b.places(id), state)
			require.Equal(b.t, 1, b.said("enqueued", id), state)
		}
		require.Equal(b.t, "pending(pending)", b.places(wrong))
	})
}

func TestJobsPastTheirDeadline(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		past := func(job *tasks.Job) {
			at := time.Now().Add(-time.Minute)
			job.Deadline = &at
		}
		waiting, taskless := b.queued(past), b.record(past)
		running, orphaned := b.taken("w1", past), b.taken("w2", past)
		b.alive("w1")
		attempt := tasks.Attempt{
			Delivery: "d-4", Worker: "w2", Model: "m", Endpoint: "e", StartedAt: time.Now(), CallDeadline: time.Now().Add(time.Hour),
		}
		_, err := b.store.Begin(b.t.Context(), orphaned, 1, attempt)
		require.NoError(b.t, err)
		inTime := b.queued()
		b.full()
		for _, id := range []string{waiting, taskless, orphaned} {
			result := b.get(id).Result()
			require.Equal(b.t, tasks.StatusExpired, result.Status)
			require.Equal(b.t, codeDeadline, result.Error.Code)
			require.Equal(b.t, "ended", b.indexed(id))
			require.Equal(b.t, 1, b.said("expired", id))
		}
		attempts := b.get(orphaned).Attempts
		require.True(b.t, attempts[0].MaybeBilled, "its call was out")
		require.Equal(b.t, tasks.StatusRunning, b.get(running).Status, "its worker ends it")
		require.Equal(b.t, tasks.StatusQueued, b.get(inTime).Status)
		require.Equal(b.t, "open", b.indexed(inTime))
	})
}

func TestTheIndexFollowsTheRecords(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		add := func(name, id string) {
			b.redis.ZAdd(b.t.Context(), b.store.Keys().Index(keyspace.IndexShard(id), name), redis.Z{Score: 1e13, Member: id})
		}
		var gone []string
		for range 40 {
			id := b.queued()
			_, err := b.store.Cancel(b.t.Context(), id, "")
			require.NoError(b.t, err)
			if len(gone) < 30 {
				b.redis.Del(b.t.Context(), b.store.Keys().Job(id)) // its retention has passed
				gone = append(gone, id)
			} else {
				add("open", id) // the commit's pipeline broke
				require.Equal(b.t, "openended", b.indexed(id))
			}
		}
		add("open", gone[0])
		add("dead", gone[1])
		open := b.queued()
		add("ended", open)
		b.full()
		for _, id := range gone {
			require.Empty(b.t, b.indexed(id))
		}
		require.Equal(b.t, "open", b.indexed(open))
		for i := 31; i <= 40; i++ {
			require.Equal(b.t, "ended", b.indexed(fmt.Sprintf("job-%d", i)))
		}
	})
}
