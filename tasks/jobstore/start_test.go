package jobstore

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// interrupted lets something happen between the script that takes a job and the reading of its record: it is no
// *redis.Client, so that a Store sends it one command after the other.
type interrupted struct {
	redis.UniversalClient
	by func()
}

func (i interrupted) HGetAll(ctx context.Context, key string) *redis.MapStringStringCmd {
	i.by()
	return i.UniversalClient.HGetAll(ctx, key)
}

func TestWhatHappensWhileAJobIsTaken(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		start := func(by func(id string)) (*Record, error) {
			job := b.job()
			_, err := b.Create(t.Context(), job)
			require.NoError(t, err)
			id := job.Job.ID
			store, err := New(Config{Redis: interrupted{b.client, func() { by(id) }}, Prefix: b.Keys().Prefix(), Sealer: b.Sealer()})
			require.NoError(t, err)
			return store.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1"})
		}
		require.NoError(t, b.Load(t.Context()))
		cancelled, err := start(func(id string) {
			_, err := b.Cancel(t.Context(), id, "")
			require.NoError(t, err)
		})
		require.NoError(t, err)
		assert.True(t, cancelled.Cancel, "a cancel in between is seen")

		taken, err := start(func(id string) {
			_, err := b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2"})
			require.NoError(t, err)
		})
		require.NoError(t, err)
		_, err = b.Begin(t.Context(), taken.ID, taken.Run, tasks.Attempt{Delivery: "d1"})
		require.ErrorIs(t, err, ErrSuperseded, "a delivery that lost the job makes no call")

		_, err = start(func(id string) { b.client.HSet(t.Context(), b.Keys().Job(id), "run", "2") })
		require.ErrorIs(t, err, ErrStaleRun, "what it took is not this run")
		_, err = start(func(id string) { b.client.Del(t.Context(), b.Keys().Job(id)) })
		require.ErrorIs(t, err, ErrNotFound)

		require.NoError(t, b.client.ScriptFlush(t.Context()).Err())
		fresh, err := start(func(string) {})
		require.NoError(t, err)
		assert.Equal(t, tasks.StatusRunning, fresh.Status, "a script that was not known runs before the record is read")
	})
}
