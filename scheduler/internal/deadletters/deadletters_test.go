package deadletters

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

type leading struct{}

func (leading) Err() error { return nil }

type bundle struct {
	t      *testing.T
	client redis.UniversalClient
	store  *jobstore.Store
	ids    int
}

func inBubble(t *testing.T, test func(b *bundle)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		store, err := jobstore.New(jobstore.Config{Redis: client})
		require.NoError(t, err)
		defer store.Close()
		test(&bundle{t: t, client: client, store: store})
	})
}

// watch runs a watch until the returned function is called: a leader's term.
func (b *bundle) watch() context.CancelFunc {
	ctx, cancel := context.WithCancel(b.t.Context())
	go New(Config{
		Redis: b.client, Keys: b.store.Keys(), Term: leading{}, Log: zerolog.Nop(),
		Count: map[string]func(context.Context) (jobstore.Dead, error){"jobs": b.store.Dead},
	}).Run(ctx)
	return cancel
}

// fail makes jobs that have failed.
func (b *bundle) fail(count int) (ids []string) {
	b.t.Helper()
	for range count {
		b.ids++
		id := fmt.Sprintf("job-%d", b.ids)
		_, err := b.store.Create(b.t.Context(), jobstore.NewJob{Fingerprint: "f", Job: tasks.Job{V: 1, ID: id, Tenant: "default", Priority: tasks.PriorityDefault}})
		require.NoError(b.t, err)
		record, err := b.store.Start(b.t.Context(), id, jobstore.Delivery{ID: "d", Worker: "w", Run: 1})
		require.NoError(b.t, err)
		_, err = b.store.Commit(b.t.Context(), jobstore.Commit{
			ID: id, Run: 1, Delivery: "d", Status: tasks.StatusFailed, Result: record.Outcome(tasks.StatusFailed, time.Now()),
		})
		require.NoError(b.t, err)
		ids = append(ids, id)
	}
	return ids
}

// told are the events so far: "grown 10 of 12".
func (b *bundle) told() (texts []string) {
	b.t.Helper()
	time.Sleep(lookEvery + time.Second)
	entries, err := b.client.XRange(b.t.Context(), b.store.Keys().Events(), "-", "+").Result()
	require.NoError(b.t, err)
	for _, entry := range entries {
		v := entry.Values
		require.Equal(b.t, "jobs", v["kind"])
		require.NotEmpty(b.t, v["oldest"])
		switch v["type"] {
		case "dead_letters.grown":
			texts = append(texts, fmt.Sprintf("grown %v of %v", v["passed"], v["count"]))
		case "dead_letters.old":
			texts = append(texts, fmt.Sprintf("old %v of %v since %v", v["days"], v["oldest"], v["oldest_at"]))
		}
	}
	return texts
}

func TestNumbersAreToldOfOnTheirWayUp(t *testing.T) {
	inBubble(t, func(b *bundle) {
		stop := b.watch()
		require.Empty(b.t, b.told())
		ids := b.fail(1)
		require.Equal(b.t, []string{"grown 1 of 1"}, b.told())
		ids = append(ids, b.fail(8)...)
		require.Len(b.t, b.told(), 1)
		ids = append(ids, b.fail(92)...)
		require.Equal(b.t, []string{"grown 1 of 1", "grown 100 of 101"}, b.told(), "10 and 100 within one look are told of together")

		stop()
		stop = b.watch() // the next leader
		require.Len(b.t, b.told(), 2, "it tells nothing twice")
		for _, id := range ids[:2] {
			require.NoError(b.t, b.store.Discard(b.t.Context(), id, 0))
		}
		require.Len(b.t, b.told(), 2)
		b.fail(1)
		require.Equal(b.t, "grown 100 of 100", b.told()[2], "it had fallen below")
		stop()
		for _, id := range ids[2:] {
			_, err := b.store.Reopen(b.t.Context(), id)
			require.NoError(b.t, err)
		}
		dead, err := b.store.Dead(b.t.Context())
		require.NoError(b.t, err)
		require.Equal(b.t, 1, dead.Count)
		require.Equal(b.t, "job-102", dead.Oldest)
	})
}

// Nothing trims dead letters, however old they become; the ages of the oldest are told of.
func TestAgesAreToldOf(t *testing.T) {
	inBubble(t, func(b *bundle) {
		begun := time.Now().UTC().Format(time.RFC3339)
		b.fail(1)
		after := func(pause time.Duration) []string { // no leader for so long, then one for a look
			time.Sleep(pause)
			defer b.watch()()
			return b.told()
		}
		require.Equal(b.t, []string{"grown 1 of 1"}, after(23*time.Hour))
		since := " of job-1 since " + begun
		require.Equal(b.t, []string{"grown 1 of 1", "old 1" + since}, after(time.Hour))
		b.fail(1)
		require.Equal(b.t, "old 7"+since, after(7 * 24 * time.Hour)[2])
		require.Equal(b.t, []string{"grown 1 of 1", "old 1" + since, "old 7" + since, "old 30" + since}, after(100*24*time.Hour))
		require.NoError(b.t, b.store.Discard(b.t.Context(), "job-1", 0))
		require.Len(b.t, after(0), 4, "the next is as old")
		require.NoError(b.t, b.store.Discard(b.t.Context(), "job-2", 0))
		b.fail(1)
		require.Len(b.t, after(0), 4)
		require.Len(b.t, after(25*time.Hour), 5, "it had fallen below")
	})
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for count, want := range map[int][2]int{0: {0, 0}, 1: {1, 1}, 9: {1, 1}, 10: {2, 10}, 999: {3, 100}, 1000: {4, 1000}, 5e9: {10, 1e9}} {
		level, passed := grown(count)
		require.Equal(t, want, [2]int{level, passed}, count)
	}
}
