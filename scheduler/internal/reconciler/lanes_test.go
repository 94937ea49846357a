package reconciler

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// member makes a job one of a batch of tenant a's.
func member(job *tasks.Job) {
	job.Tenant, job.Member = "a", &tasks.Member{Batch: batches.NewID()}
}

// What stands in a lane is where it should be, however long it stands there.
func TestLanesAreLeftAlone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		var ids []string
		for range 3 {
			ids = append(ids, b.queued(member))
		}
		for range 3 {
			b.full()
			b.later(missingFor + time.Second)
		}
		b.full()
		for _, id := range ids {
			require.Equal(b.t, "lane a(aggregating)", b.places(id))
		}
		require.Empty(b.t, b.logs.String())
	})
}

// halfInLanes are states of a member's task, in a lane to begin with, and what becomes of each.
var halfInLanes = map[string]struct {
	make func(b *bench, id string)
	then string
}{
	"no task": {
		make: func(b *bench, id string) {
			b.redis.ZRem(b.t.Context(), b.bulk.keys.lanes.Prefix+"a", id)
			b.redis.SRem(b.t.Context(), b.bulk.keys.lanes.Groups, "a")
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id)
		},
		then: "lane a(aggregating)",
	},
	"in no lane": {
		make: func(b *bench, id string) { b.redis.ZRem(b.t.Context(), b.bulk.keys.lanes.Prefix+"a", id) },
		then: "lane a(aggregating)",
	},
	"in a lane that has no name": {
		make: func(b *bench, _ string) { b.redis.SRem(b.t.Context(), b.bulk.keys.lanes.Groups, "a") },
		then: "lane a(aggregating)",
	},
	"in a lane that its hash does not name": {
		make: func(b *bench, id string) { b.redis.HDel(b.t.Context(), b.bulk.keys.tasks+id, "group") },
		then: "lane a(aggregating)",
	},
	"in a lane, and said to be pending": {
		make: func(b *bench, id string) { b.redis.HSet(b.t.Context(), b.bulk.keys.tasks+id, "state", "pending") },
		then: "lane a(aggregating)",
	},
	"in a lane without its hash": {
		make: func(b *bench, id string) { b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id) },
		then: "lane a(aggregating)",
	},
	"in a lane without its hash, of no open job": {
		make: func(b *bench, id string) {
			b.redis.Del(b.t.Context(), b.bulk.keys.tasks+id, b.store.Keys().Job(id))
		},
		then: "()",
	},
	"in a lane and pending": {
		make: func(b *bench, id string) {
			b.redis.LPush(b.t.Context(), b.bulk.keys.pending, id)
			b.redis.HSet(b.t.Context(), b.bulk.keys.tasks+id, "state", "pending")
		},
		then: "pending(pending)",
	},
	"in a lane and active, with a worker that is dead": {
		make: func(b *bench, id string) {
			b.redis.LPush(b.t.Context(), b.bulk.keys.active, id)
			b.redis.HSet(b.t.Context(), b.bulk.keys.tasks+id, "state", "active")
			b.redis.ZAdd(b.t.Context(), b.bulk.keys.lease, redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: id})
		},
		then: "pending(pending)",
	},
	"in a lane and to be retried": {
		make: func(b *bench, id string) {
			b.redis.ZAdd(b.t.Context(), b.bulk.keys.retry, redis.Z{Score: 1, Member: id})
			b.redis.HSet(b.t.Context(), b.bulk.keys.tasks+id, "state", "retry")
		},
		then: "retry(retry)",
	},
}

func TestHalfWrittenLanesAreMended(t *testing.T) {
	t.Parallel()
	for name, state := range halfInLanes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(b *bench) {
				id := b.record(member)
				b.enqueue(id)
				require.Equal(b.t, "lane a(aggregating)", b.places(id))
				state.make(b, id)
				b.full()
				b.later(missingFor + time.Second)
				b.full()
				require.Equal(b.t, state.then, b.places(id))
				said := b.logs.String()
				b.full()
				require.Equal(b.t, said, b.logs.String(), "it is mended once")
			})
		})
	}
}

// A member whose task was deleted in asynq's console, from its lane, is cancelled; a dead delivery's is its queue's next.
func TestMembersThatWereInLanes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		gone, dead := b.queued(member), b.queued(member)
		b.redis.ZRem(b.t.Context(), b.bulk.keys.lanes.Prefix+"a", dead)
		b.claim(dead)
		b.start(dead, "w1")
		b.full()
		require.NoError(b.t, b.inspector.DeleteTask("bulk", gone))
		b.full()
		b.later(missingFor + time.Second)
		b.full()
		require.Equal(b.t, tasks.StatusCancelled, b.get(gone).Status)
		require.Equal(b.t, "pending(pending)", b.places(dead))
	})
}

// Many lanes are looked through part by part.
func TestAllLanesAreLookedAt(t *testing.T) {
	t.Parallel()
	onReal(t, func(b *bench) {
		ctx, k := b.t.Context(), b.bulk.keys
		pipe := b.redis.Pipeline()
		for lane := range 7 {
			name := fmt.Sprint("lane-", lane)
			pipe.SAdd(ctx, k.lanes.Groups, name)
			for i := range 300 {
				id := fmt.Sprintf("foreign %d %d", lane, i)
				pipe.ZAdd(ctx, k.lanes.Prefix+name, redis.Z{Score: float64(i), Member: id})
				if i != 222 {
					pipe.HSet(ctx, k.tasks+id, "msg", "m", "state", "aggregating", "group", name)
				}
			}
		}
		_, err := pipe.Exec(ctx)
		require.NoError(b.t, err)
		for range 7*300/part + 1 {
			b.full()
		}
		for lane := range 7 {
			require.Equal(b.t, 1, b.said("dropped", fmt.Sprintf("foreign %d 222", lane)), "lane %d", lane)
		}
	})
}
