package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

type leading struct{}

func (leading) Err() error { return nil }

// bundle is a keeper at work in a bubble.
type bundle struct {
	t     *testing.T
	store *jobstore.Store
}

func inBubble(t *testing.T, test func(b bundle)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		store, err := jobstore.New(jobstore.Config{Redis: client})
		require.NoError(t, err)
		defer store.Close()
		go New(store, leading{}, zerolog.Nop()).Run(t.Context())
		test(bundle{t, store})
	})
}

func (b bundle) batch(kind batches.Kind, total, enqueued int) string {
	b.t.Helper()
	id, deadline := batches.NewID(), time.Now().Add(time.Hour)
	_, err := b.store.Batches().Create(b.t.Context(), batches.Batch{ID: id, Tenant: "acme", Kind: kind, Deadline: deadline})
	require.NoError(b.t, err)
	if total > 0 {
		require.NoError(b.t, b.store.Batches().Begin(b.t.Context(), id, total))
	}
	for number := range enqueued {
		_, err := b.store.Create(b.t.Context(), jobstore.NewJob{Fingerprint: "f", Job: tasks.Job{
			V: 1, ID: batches.MemberID(id, number), Tenant: "acme", Priority: tasks.PriorityBulk, Deadline: &deadline,
			Member: &tasks.Member{Batch: id, Number: number},
		}})
		require.NoError(b.t, err)
	}
	return id
}

// endUnreported ends a member as whoever dies before the report.
func (b bundle) endUnreported(id string, number int) {
	b.t.Helper()
	member := batches.MemberID(id, number)
	_, err := b.store.Start(b.t.Context(), member, jobstore.Delivery{ID: "d", Worker: "w", Run: 1})
	require.NoError(b.t, err)
	_, err = b.store.Commit(b.t.Context(), jobstore.Commit{ID: member, Run: 1, Delivery: "d", Status: tasks.StatusSucceeded})
	require.NoError(b.t, err)
}

func (b bundle) get(id string) batches.Batch {
	b.t.Helper()
	batch, err := b.store.Batches().Get(b.t.Context(), id, "")
	require.NoError(b.t, err)
	return batch
}

func TestUnreportedEndsAreFound(t *testing.T) {
	inBubble(t, func(b bundle) {
		id := b.batch(batches.KindRun, 2, 2)
		b.endUnreported(id, 0)
		b.endUnreported(id, 1)
		require.Equal(b.t, 0, b.get(id).Counts.Ended())
		time.Sleep(3 * time.Minute)
		require.Equal(b.t, batches.Counts{Succeeded: 2}, b.get(id).Counts)
		require.Equal(b.t, batches.StatusCompleted, b.get(id).Status)
		open, err := b.store.Batches().Open(b.t.Context())
		require.NoError(b.t, err)
		require.Empty(b.t, open)
	})
}

func TestCancellingGoesOn(t *testing.T) {
	inBubble(t, func(b bundle) {
		id := b.batch(batches.KindRun, 3, 2)
		_, err := b.store.Batches().Cancel(b.t.Context(), id, "acme")
		require.NoError(b.t, err)
		time.Sleep(3 * time.Minute)
		require.Equal(b.t, batches.Counts{Cancelled: 3}, b.get(id).Counts)
		require.Equal(b.t, batches.StatusCancelled, b.get(id).Status)
	})
}

func TestWhatWasNeverEnqueuedExpires(t *testing.T) {
	inBubble(t, func(b bundle) {
		id, early := b.batch(batches.KindRun, 3, 0), b.batch(batches.KindRun, 0, 0)
		time.Sleep(59 * time.Minute)
		require.Equal(b.t, 0, b.get(id).Counts.Ended())
		require.Equal(b.t, batches.StatusValidating, b.get(early).Status)
		time.Sleep(5 * time.Minute)
		require.Equal(b.t, batches.Counts{Expired: 3}, b.get(id).Counts)
		require.Equal(b.t, batches.StatusExpired, b.get(id).Status)
		require.Equal(b.t, batches.StatusCancelled, b.get(early).Status)
	})
}
