package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// A health probe is no job, and its task none without a record: it is left where it stands, and that of a dead worker is
// requeued like any other.
func TestHealthProbesAreNoStrayTasks(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		for _, q := range b.queues {
			if q.name == "critical" {
				b.bulk = q
			}
		}
		var ids []string
		for _, endpoint := range []string{"taken", "waiting"} {
			probe := envelope.HealthProbe{Endpoint: endpoint, Tick: time.Now().Truncate(time.Minute), Every: time.Minute}
			made, options, err := envelope.NewHealthProbe(keyspace.New(""), probe)
			require.NoError(b.t, err)
			_, err = b.client.EnqueueContext(b.t.Context(), made, options...)
			require.NoError(b.t, err)
			ids = append(ids, probe.TaskID())
		}
		b.claim(ids[0])
		for range 2 {
			b.full()
			b.later(5 * time.Second)
		}
		require.Empty(b.t, b.logs.String(), "nothing is amiss")
		require.EqualValues(b.t, 1, b.redis.LLen(b.t.Context(), b.bulk.keys.active).Val())

		b.later(deadAfter)
		b.full()
		require.Contains(b.t, b.logs.String(), requeued)
		pending, err := b.redis.LRange(b.t.Context(), b.bulk.keys.pending, 0, -1).Result()
		require.NoError(b.t, err)
		require.ElementsMatch(b.t, ids, pending)
	})
}
