package reconciler

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// halfWritten are the states in which a queue can be left, each with what makes it and what becomes of it. The job is
// open, and its task active with a living worker, unless the state says otherwise.
var halfWritten = map[string]struct {
	make         func(b *bench, id string)
	before, then string
	what         string
}{
	"nothing is wrong": {
		make:   func(*bench, string) {},
		before: "active+leased(active)", then: "active+leased(active)",
	},
	"active without a lease": {
		make:   func(b *bench, id string) { b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id) },
		before: "active(active)", then: "active+leased(active)", what: leased,
	},
	"active without its hash": {
		make:   func(b *bench, id string) { b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id) },
		before: "active+leased()", then: "active+leased(active)", what: "rewritten",
	},
	"active without its message": {
		make:   func(b *bench, id string) { b.redis.HDel(b.t.Context(), b.bulk.keys.tasks+id, "msg") },
		before: "active+leased(active, no message)", then: "active+leased(active)", what: "rewritten",
	},
	"active, neither hash nor lease": {
		make: func(b *bench, id string) {
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id)
			b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id)
		},
		before: "active()", then: "active+leased(active)", what: "rewritten",
	},
	"active, of no open job, without its hash": {
		make: func(b *bench, id string) {
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id)
			b.redis.Del(b.t.Context(), b.store.Keys().Job(id))
		},
		before: "active+leased()", then: "()", what: "dropped",
	},
	"active twice": {
		make:   func(b *bench, id string) { b.redis.LPush(b.t.Context(), b.bulk.keys.active, id) },
		before: "active+active+leased(active)", then: "active+leased(active)", what: single,
	},
	"active and pending": {
		make:   func(b *bench, id string) { b.redis.LPush(b.t.Context(), b.bulk.keys.pending, id) },
		before: "pending+active+leased(active)", then: "active+leased(active)", what: single,
	},
	"active and to be retried": {
		make: func(b *bench, id string) {
			b.redis.ZAdd(b.t.Context(), b.bulk.keys.retry, redis.Z{Score: 1, Member: id})
		},
		before: "active+leased+retry(active)", then: "active+leased(active)", what: single,
	},
	"pending without its hash": {
		make: func(b *bench, id string) {
			b.redis.LPush(b.t.Context(), b.bulk.keys.pending, id)
			b.redis.LRem(b.t.Context(), b.bulk.keys.active, 0, id)
			b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id)
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id)
		},
		before: "pending()", then: "pending(pending)", what: "rewritten",
	},
	"pending, of no open job, without its hash": {
		make: func(b *bench, id string) {
			b.redis.LPush(b.t.Context(), b.bulk.keys.pending, id)
			b.redis.LRem(b.t.Context(), b.bulk.keys.active, 0, id)
			b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id)
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id, b.store.Keys().Job(id))
		},
		before: "pending()", then: "()", what: "dropped",
	},
	"to be retried without its hash": {
		make: func(b *bench, id string) {
			b.redis.ZAdd(b.t.Context(), b.bulk.keys.retry, redis.Z{Score: 1, Member: id})
			b.redis.LRem(b.t.Context(), b.bulk.keys.active, 0, id)
			b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id)
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id)
		},
		before: "retry()", then: "retry(retry)", what: "rewritten",
	},
	"archived without its hash": {
		make: func(b *bench, id string) {
			b.redis.ZAdd(b.t.Context(), b.bulk.keys.archived, redis.Z{Score: 1, Member: id})
			b.redis.LRem(b.t.Context(), b.bulk.keys.active, 0, id)
			b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id)
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id)
		},
		before: "archived()", then: "()", what: forgotten,
	},
	"a lease without an active task": {
		make: func(b *bench, id string) {
			b.redis.LRem(b.t.Context(), b.bulk.keys.active, 0, id)
			b.redis.LPush(b.t.Context(), b.bulk.keys.pending, id)
			b.redis.HSet(b.t.Context(), b.bulk.keys.tasks+id, "state", "pending")
		},
		before: "pending+leased(pending)", then: "pending(pending)", what: released,
	},
	"a lease and a hash in no list, of no open job": {
		make: func(b *bench, id string) {
			b.redis.LRem(b.t.Context(), b.bulk.keys.active, 0, id)
			b.redis.Del(b.t.Context(), b.store.Keys().Job(id))
		},
		before: "leased(active)", then: "()", what: adrift,
	},
	"active with a message that cannot be decoded": {
		make: func(b *bench, id string) {
			b.redis.HSet(b.t.Context(), b.bulk.keys.tasks+id, "msg", "\xff\xfe")
		},
		before: "active+leased(active)", then: "active+leased(active)", what: "rewritten",
	},
	"active with a message that cannot be decoded, of no open job": {
		make: func(b *bench, id string) {
			b.redis.HSet(b.t.Context(), b.bulk.keys.tasks+id, "msg", "\xff\xfe")
			b.redis.Del(b.t.Context(), b.store.Keys().Job(id))
		},
		before: "active+leased(active)", then: "archived(archived)", what: "archived",
	},
}

func TestHalfWrittenStates(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		b.alive("w1")
		for name, state := range halfWritten {
			id := b.taken("w1")
			other := b.queued() // beside it, a task that nothing is wrong with
			state.make(b, id)
			require.Equal(b.t, state.before, b.places(id), name)
			b.full()
			assert.Equal(b.t, state.then, b.places(id), name)
			if state.what != "" {
				assert.Equal(b.t, 1, b.said(state.what, id), "%s: one line for it in\n%s", name, b.logs)
			}
			said := b.logs.String()
			b.full()
			assert.Equal(b.t, said, b.logs.String(), "%s: and it stays mended", name)
			assert.Equal(b.t, "pending(pending)", b.places(other), name)
			require.NoError(b.t, b.redis.FlushAll(b.t.Context()).Err())
			b.alive("w1")
			b.lead()
		}
	})
}

// What is written anew is what asynq would have written.
func TestATaskWrittenAnewIsTheSame(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		id := b.queued()
		before, err := b.inspector.GetTaskInfo("bulk", id)
		require.NoError(b.t, err)
		b.redis.HDel(b.t.Context(), b.bulk.keys.tasks+id, "msg")
		b.full()
		after, err := b.inspector.GetTaskInfo("bulk", id)
		require.NoError(b.t, err)
		require.Equal(b.t, before, after)
		require.Equal(b.t, envelope.MaxRetry, after.MaxRetry)
		require.Equal(b.t, envelope.Timeout, after.Timeout)
		require.Equal(b.t, time.Hour, after.Retention)
		require.Equal(b.t, asynq.TaskStatePending, after.State)
	})
}

// More than one part of a long list is looked at, in turn.
func TestLongListsAreWalkedThrough(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		id := b.queued()
		b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id)
		for range part + 100 {
			b.queued()
		}
		require.Equal(b.t, "pending()", b.places(id))
		b.full()
		require.Equal(b.t, "pending()", b.places(id), "it is in the second part")
		b.full()
		require.Equal(b.t, "pending(pending)", b.places(id))
		require.Zero(b.t, b.bulk.rank)
	})
}

// A leader that was stopped and goes on does nothing to a queue on which a later one has been.
func TestAnOldLeaderIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		id := b.taken("w1")
		b.full()
		old := b.Reconciler
		old.term = &fixedTerm{number: 1}
		b.later(deadAfter + time.Second)
		dead, err := old.dead(b.t.Context(), b.bulk)
		require.NoError(b.t, err)
		require.Len(b.t, dead, 1)
		was := b.bulk

		b.term = &fixedTerm{number: 2}
		b.lead()
		b.full()
		old.term.(*fixedTerm).over = true // it would see so, had it looked before it was stopped
		_, err = mendScript.Run(b.t.Context(), b.redis, was.keys.forMend(), 1, was.keys.tasks, 0, part, id, dead[0].expiry).Result()
		require.NoError(b.t, err)
		require.Equal(b.t, "active+leased(active)", b.places(id))
		require.Error(b.t, old.mend(b.t.Context(), was, dead))
		require.Error(b.t, old.round(b.t.Context(), true))
		require.Equal(b.t, "active+leased(active)", b.places(id))
	})
}

// A queue that has seen a later term than the counter knows is not closed to everybody for ever.
func TestTheCounterIsRaised(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		id := b.taken("w1")
		b.redis.Set(b.t.Context(), b.bulk.keys.term, 41, 0)
		b.redis.ZRem(b.t.Context(), b.bulk.keys.lease, id)
		b.full()
		require.EqualValues(b.t, 42, b.term.number)
		require.Equal(b.t, "active+leased(active)", b.places(id))
	})
}

// Queues of others on the same Redis are left alone.
func TestOtherQueuesAreLeftAlone(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		_, err := b.client.Enqueue(asynq.NewTask("mail", nil), asynq.Queue("mails"), asynq.TaskID("m1"))
		require.NoError(b.t, err)
		k := newQueueKeys("mails")
		b.redis.Del(b.t.Context(), k.tasks+"m1")
		b.full()
		require.EqualValues(b.t, 1, b.redis.LLen(b.t.Context(), k.pending).Val())
		require.Zero(b.t, b.redis.Exists(b.t.Context(), k.term).Val())
	})
}

func TestJobOf(t *testing.T) {
	t.Parallel()
	for taskID, run := range map[string]int{"a": 1, "a-b_C": 1, "a.2": 2, "a.17": 17} {
		id, got, err := jobOf(taskID)
		require.NoError(t, err, taskID)
		require.Equal(t, run, got, taskID)
		require.Equal(t, taskID, envelope.TaskID(id, got))
	}
	for _, taskID := range []string{"", ".", "a.1", "a.0", "a.x", "a.2.3", "a b", "a.02", "a.-1"} {
		_, _, err := jobOf(taskID)
		require.Error(t, err, taskID)
	}
}

// The task of an older run, or of another queue, is no open job's.
func TestOnlyTheCurrentTaskIsWrittenAnew(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		id := b.queued()
		_, err := b.store.Cancel(b.t.Context(), id, "")
		require.NoError(b.t, err)
		_, err = b.store.Reopen(b.t.Context(), id)
		require.NoError(b.t, err)
		b.enqueue(id)
		b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id, b.bulk.keys.tasks+id+".2")
		b.full()
		require.Equal(b.t, "()", b.places(id))
		require.Equal(b.t, "pending(pending)", b.places(id+".2"))
		record := b.get(id)
		require.Equal(b.t, tasks.StatusQueued, record.Status)
		_, err = b.store.Start(b.t.Context(), id, jobstore.Delivery{ID: "d", Worker: "w", Run: 2})
		require.NoError(b.t, err)
	})
}
