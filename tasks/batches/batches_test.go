package batches

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a store, and the test it is for.
type bundle struct {
	*Store
	t      *testing.T
	client redis.UniversalClient
}

func newBundle(t *testing.T, client redis.UniversalClient) bundle {
	t.Helper()
	store, err := New(Config{Redis: client})
	require.NoError(t, err)
	return bundle{Store: store, t: t, client: client}
}

// everywhere runs a test on the embedded Redis, a real one, and a cluster.
func everywhere(t *testing.T, test func(b bundle)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(newBundle(t, client))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Real(t)
		test(newBundle(t, client))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Cluster(t)
		test(newBundle(t, client))
	})
}

// begun is a batch with so many members.
func (b bundle) begun(kind Kind, total int) string {
	b.t.Helper()
	id := NewID()
	created, err := b.Create(b.t.Context(), Batch{
		ID: id, Tenant: "acme", Kind: kind, Name: "docs.jsonl", Deadline: time.Now().Add(time.Hour), Retention: time.Hour,
		Metadata: map[string]string{"night": "7"}, Notes: map[string]string{"from": "test"},
	})
	require.NoError(b.t, err)
	require.True(b.t, created)
	if total > 0 {
		require.NoError(b.t, b.Begin(b.t.Context(), id, total))
	}
	return id
}

func (b bundle) get(id string) Batch {
	b.t.Helper()
	batch, err := b.Get(b.t.Context(), id, "")
	require.NoError(b.t, err)
	return batch
}

func (b bundle) report(id string, reports ...Report) {
	b.t.Helper()
	require.NoError(b.t, b.ReportMany(b.t.Context(), id, reports))
}

// events are the kinds of all that were written.
func (b bundle) events() []string {
	b.t.Helper()
	entries, err := b.client.XRange(b.t.Context(), b.keys.Events(), "-", "+").Result()
	require.NoError(b.t, err)
	var kinds []string
	for _, entry := range entries {
		kinds = append(kinds, entry.Values["type"].(string)) //nolint:forcetypeassert // it is a text
	}
	return kinds
}

func TestRunFromBeginToEnd(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		id := b.begun(KindRun, 3)
		batch := b.get(id)
		require.Equal(b.t, StatusInProgress, batch.Status)
		require.Equal(b.t, map[string]string{"night": "7"}, batch.Metadata)
		require.Equal(b.t, map[string]string{"from": "test"}, batch.Notes)
		open, err := b.Open(b.t.Context())
		require.NoError(b.t, err)
		require.Equal(b.t, []string{id}, open)

		require.NoError(b.t, b.Report(b.t.Context(), id, Report{Number: 0, Run: 1, State: Succeeded, CostUSD: 0.25, PromptTokens: 10, CompletionTokens: 3}))
		b.report(id, Report{Number: 0, Run: 1, State: Succeeded, CostUSD: 0.25}, Report{Number: 2, Run: 1, State: Failed, CostUSD: 0.5})
		batch = b.get(id)
		require.Equal(b.t, Counts{Succeeded: 1, Failed: 1}, batch.Counts)
		require.InDelta(b.t, 0.75, batch.CostUSD, 1e-12, "what was reported again is not counted again")
		require.Equal(b.t, Usage{10, 3, 13}, batch.Usage)
		require.Equal(b.t, StatusInProgress, batch.Status)

		b.report(id, Report{Number: 1, Run: 1, State: Succeeded})
		batch = b.get(id)
		require.Equal(b.t, StatusCompleted, batch.Status)
		require.False(b.t, batch.CompletedAt.IsZero())
		require.Equal(b.t, batch.CompletedAt, batch.EndedAt())
		require.Equal(b.t, []string{"batch.completed"}, b.events())
		open, err = b.Open(b.t.Context())
		require.NoError(b.t, err)
		require.Empty(b.t, open)
		ttl, err := b.client.PTTL(b.t.Context(), b.keys.Batch(id)).Result()
		require.NoError(b.t, err)
		require.InDelta(b.t, Kept.Hours(), ttl.Hours(), 1)

		states, err := b.Members(b.t.Context(), id)
		require.NoError(b.t, err)
		require.Equal(b.t, []State{Succeeded, Succeeded, Failed}, states)

		// One of its members is run again.
		b.report(id, Report{Number: 2, Run: 2, State: Open})
		b.report(id, Report{Number: 2, Run: 1, State: Failed, CostUSD: 9})
		batch = b.get(id)
		require.Equal(b.t, StatusInProgress, batch.Status)
		require.True(b.t, batch.CompletedAt.IsZero())
		require.Equal(b.t, Counts{Succeeded: 2}, batch.Counts)
		ttl, err = b.client.PTTL(b.t.Context(), b.keys.Batch(id)).Result()
		require.NoError(b.t, err)
		require.Equal(b.t, time.Duration(-1), ttl)
		open, err = b.Open(b.t.Context())
		require.NoError(b.t, err)
		require.Equal(b.t, []string{id}, open)
		b.report(id, Report{Number: 2, Run: 2, State: Expired, CostUSD: 0.25})
		batch = b.get(id)
		require.Equal(b.t, StatusExpired, batch.Status)
		require.InDelta(b.t, 1, batch.CostUSD, 1e-12)
	})
}

func TestFileIsFinishedByWhoeverWritesIt(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		id := b.begun(KindFile, 2)
		_, err := b.Finish(b.t.Context(), id, "file-out", "")
		require.ErrorIs(b.t, err, ErrNotEnded)
		b.report(id, Report{Number: 0, Run: 1, State: Succeeded}, Report{Number: 1, Run: 1, State: Failed})
		require.Equal(b.t, StatusFinalizing, b.get(id).Status)
		require.Empty(b.t, b.events())
		for range 2 {
			batch, err := b.Finish(b.t.Context(), id, "file-out", "file-err")
			require.NoError(b.t, err)
			require.Equal(b.t, StatusCompleted, batch.Status)
			require.Equal(b.t, "file-out", batch.OutputFileID)
			require.Equal(b.t, "file-err", batch.ErrorFileID)
		}
		require.Equal(b.t, []string{"batch.completed"}, b.events())
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		id := b.begun(KindFile, 2)
		for range 2 {
			batch, err := b.Cancel(b.t.Context(), id, "acme")
			require.NoError(b.t, err)
			require.Equal(b.t, StatusCancelling, batch.Status)
		}
		_, err := b.Cancel(b.t.Context(), id, "other")
		require.ErrorIs(b.t, err, ErrNotFound)
		require.ErrorIs(b.t, b.Begin(b.t.Context(), id, 3), ErrCancelling)
		b.report(id, Report{Number: 0, Run: 1, State: Succeeded}, Report{Number: 1, Run: 0, State: Cancelled})
		require.Equal(b.t, StatusCancelling, b.get(id).Status)
		batch, err := b.Finish(b.t.Context(), id, "file-out", "")
		require.NoError(b.t, err)
		require.Equal(b.t, StatusCancelled, batch.Status)
		_, err = b.Cancel(b.t.Context(), id, "acme")
		require.ErrorIs(b.t, err, ErrEnded)

		// The one that was never enqueued is opened, and ends in its first run.
		b.report(id, Report{Number: 1, Run: 0, State: Open})
		require.Equal(b.t, StatusInProgress, b.get(id).Status)
		b.report(id, Report{Number: 1, Run: 1, State: Succeeded})
		require.Equal(b.t, Counts{Succeeded: 2}, b.get(id).Counts)
		require.Equal(b.t, StatusFinalizing, b.get(id).Status)

		early := b.begun(KindRun, 0)
		batch, err = b.Cancel(b.t.Context(), early, "")
		require.NoError(b.t, err)
		require.Equal(b.t, StatusCancelled, batch.Status)
		running := b.begun(KindRun, 1)
		_, err = b.Cancel(b.t.Context(), running, "")
		require.NoError(b.t, err)
		b.report(running, Report{Number: 0, Run: 1, State: Cancelled})
		require.Equal(b.t, StatusCancelled, b.get(running).Status)
	})
}

func TestFail(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		id := b.begun(KindFile, 0)
		why := []Problem{{Code: "invalid_json_line", Message: "line 3 is no JSON", Line: 3}}
		require.NoError(b.t, b.Fail(b.t.Context(), id, why))
		require.NoError(b.t, b.Fail(b.t.Context(), id, nil), "again")
		batch := b.get(id)
		require.Equal(b.t, StatusFailed, batch.Status)
		require.Equal(b.t, why, batch.Problems)
		require.ErrorIs(b.t, b.Begin(b.t.Context(), id, 1), ErrEnded)
		_, err := b.Finish(b.t.Context(), id, "", "")
		require.ErrorIs(b.t, err, ErrEnded)
		require.Equal(b.t, []string{"batch.failed"}, b.events(), "told once")
	})
}

func TestBatchGrows(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		id := b.begun(KindRun, 1)
		b.report(id, Report{Number: 1, Run: 1, State: Succeeded})
		require.Equal(b.t, 0, b.get(id).Counts.Ended(), "one that is no member is not counted")
		b.report(id, Report{Number: 0, Run: 1, State: Succeeded})
		require.Equal(b.t, StatusCompleted, b.get(id).Status)
		require.NoError(b.t, b.Begin(b.t.Context(), id, 1))
		require.Equal(b.t, StatusCompleted, b.get(id).Status)
		require.NoError(b.t, b.Begin(b.t.Context(), id, 2))
		batch := b.get(id)
		require.Equal(b.t, StatusInProgress, batch.Status)
		require.True(b.t, batch.CompletedAt.IsZero())
		open, err := b.Open(b.t.Context())
		require.NoError(b.t, err)
		require.Equal(b.t, []string{id}, open)
		b.report(id, Report{Number: 1, Run: 1, State: Succeeded})
		require.Equal(b.t, StatusCompleted, b.get(id).Status)
	})
}

func TestLease(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		id := b.begun(KindFile, 1)
		lease := func(who string, keep time.Duration) bool {
			taken, err := b.Lease(b.t.Context(), id, who, keep)
			require.NoError(b.t, err)
			return taken
		}
		require.True(b.t, lease("a", time.Minute))
		require.False(b.t, lease("b", time.Minute))
		require.NoError(b.t, b.Leave(b.t.Context(), id, "b"), "what is another's stays")
		require.False(b.t, lease("b", time.Minute))
		require.NoError(b.t, b.Leave(b.t.Context(), id, "a"))
		require.True(b.t, lease("b", time.Millisecond))
		require.Eventually(b.t, func() bool { return lease("a", time.Minute) }, 5*time.Second, time.Millisecond)
		_, err := b.Lease(b.t.Context(), "batch_none", "a", time.Minute)
		require.ErrorIs(b.t, err, ErrNotFound)

		require.NoError(b.t, b.Note(b.t.Context(), id, map[string]string{"enqueued": "12"}))
		require.Equal(b.t, "12", b.get(id).Notes["enqueued"])
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		var ids []string
		start := time.Now().Add(-time.Hour)
		for i := range 7 {
			tenant := []string{"acme", "other"}[i%2]
			id := NewID()
			_, err := b.Create(b.t.Context(), Batch{ID: id, Tenant: tenant, Kind: KindRun, CreatedAt: start.Add(time.Duration(i) * time.Second)})
			require.NoError(b.t, err)
			ids = append([]string{id}, ids...)
		}
		require.NoError(b.t, b.client.Del(b.t.Context(), b.keys.Batch(ids[4])).Err()) // its time is over
		list := func(tenant string, limit int) (found []string) {
			after := ""
			for {
				page, more, err := b.List(b.t.Context(), tenant, after, limit)
				require.NoError(b.t, err)
				for _, batch := range page {
					found = append(found, batch.ID)
				}
				if !more {
					return found
				}
				after = found[len(found)-1]
			}
		}
		all := []string{ids[0], ids[1], ids[2], ids[3], ids[5], ids[6]}
		require.Equal(b.t, all, list("", 2))
		require.Equal(b.t, all, list("", 100))
		require.Equal(b.t, []string{ids[0], ids[2], ids[6]}, list("acme", 1))
		_, _, err := b.List(b.t.Context(), "other", ids[0], 2)
		require.ErrorIs(b.t, err, ErrUnknownAfter)
		require.NoError(b.t, b.Overlook(b.t.Context()))
		open, err := b.Open(b.t.Context())
		require.NoError(b.t, err)
		require.Len(b.t, open, 6)

		_, err = b.Create(b.t.Context(), Batch{ID: ids[0], Tenant: "other", Kind: KindRun})
		require.ErrorIs(b.t, err, ErrNotFound, "the id is another tenant's")
	})
}
