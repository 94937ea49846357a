package jobstore

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func TestDiscard(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		require.ErrorIs(t, b.Discard(t.Context(), "absent", 0), ErrNotFound)
		open := b.created(t)
		require.ErrorIs(t, b.Discard(t.Context(), open, 0), ErrNotEnded)
		require.Equal(t, []string{indexOpen}, b.inIndex(t, open))

		for _, status := range []tasks.Status{tasks.StatusCancelled, tasks.StatusSucceeded} {
			id := b.created(t)
			b.end(t, id, status, nil)
			require.ErrorIs(t, b.Discard(t.Context(), id, 2), ErrStaleRun)
			require.NoError(t, b.Discard(t.Context(), id, 1))
			_, err := b.Get(t.Context(), id)
			require.ErrorIs(t, err, ErrNotFound)
			require.Empty(t, b.inIndex(t, id))
		}
	})
}

// Whoever has seen a run end reopens that run, and none after it.
func TestReopenRun(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id := b.created(t)
		b.end(t, id, tasks.StatusCancelled, nil)
		record, err := b.ReopenRun(t.Context(), id, 1)
		require.NoError(t, err)
		require.Equal(t, 2, record.Run)
		b.end(t, id, tasks.StatusCancelled, nil)
		_, err = b.ReopenRun(t.Context(), id, 1)
		require.ErrorIs(t, err, ErrStaleRun)
		require.Equal(t, 2, b.get(t, id).Run)

		// Of many at the same time one reopens it, and the others know that it was not they.
		var reopened atomic.Int64
		var racing sync.WaitGroup
		for range 8 {
			racing.Go(func() {
				record, err := b.ReopenRun(t.Context(), id, 2)
				if err == nil {
					reopened.Add(1)
					return
				}
				assert.ErrorIs(t, err, ErrStaleRun)
				assert.True(t, record == nil || record.Run == 3, "the task of whose run may have to be enqueued")
			})
		}
		racing.Wait()
		require.EqualValues(t, 1, reopened.Load())
	})
}
