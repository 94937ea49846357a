package schedules_test

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/schedules"
	"github.com/forebay-queue/forebay/tasks/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func everywhere(t *testing.T, test func(t *testing.T, store *schedules.Store, client redis.UniversalClient)) {
	t.Helper()
	for name, start := range map[string]func(*testing.T) redis.UniversalClient{
		"embedded": func(t *testing.T) redis.UniversalClient { client, _ := redistest.Embedded(t); return client },
		"real":     func(t *testing.T) redis.UniversalClient { client, _ := redistest.Real(t); return client },
		"cluster":  func(t *testing.T) redis.UniversalClient { client, _ := redistest.Cluster(t); return client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := start(t)
			test(t, schedules.New(client, keyspace.New(""), nil), client)
		})
	}
}

func complete(t *testing.T, change func(s *schedules.Schedule)) schedules.Schedule {
	t.Helper()
	s := nightly(change)
	require.NoError(t, s.Complete(began))
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, store *schedules.Store, _ redis.UniversalClient) {
		ctx := t.Context()
		mine := complete(t, nil)
		theirs := complete(t, func(s *schedules.Schedule) { s.Tenant = "acme" })
		require.NoError(t, store.Put(ctx, mine))
		require.NoError(t, store.Put(ctx, theirs))
		list, err := store.List(ctx, "")
		require.NoError(t, err)
		require.Len(t, list, 2)
		assert.Equal(t, "acme", list[0].Tenant)
		list, err = store.List(ctx, "acme")
		require.NoError(t, err)
		require.Len(t, list, 1)
		_, err = store.Get(ctx, "acme", "other")
		require.ErrorIs(t, err, schedules.ErrNotFound)

		entry, err := store.Get(ctx, "default", mine.Name)
		require.NoError(t, err)
		require.NotNil(t, entry.Next)
		assert.WithinDuration(t, time.Now(), entry.State.LastTick, time.Minute, "the ticks before it was added are nobody's")

		tick := *entry.Next
		require.NoError(t, store.Advance(ctx, mine, tick, []string{"j1"}, 3, nil))
		require.NoError(t, store.Advance(ctx, mine, tick, []string{"j1"}, 3, nil), "once more")
		entry, err = store.Get(ctx, "default", mine.Name)
		require.NoError(t, err)
		assert.Equal(t, schedules.State{LastTick: tick, LastJob: "j1", Jobs: 1, Missed: 3}, entry.State)
		assert.True(t, entry.Next.After(tick))

		paused, err := store.Pause(ctx, "default", mine.Name, true)
		require.NoError(t, err)
		assert.Nil(t, paused.Next)
		resumed, err := store.Pause(ctx, "default", mine.Name, false)
		require.NoError(t, err)
		assert.NotNil(t, resumed.Next)

		// Another prompt keeps its place, another time begins anew.
		mine.Job.Input = "another day"
		require.NoError(t, store.Put(ctx, mine))
		entry, err = store.Get(ctx, "default", mine.Name)
		require.NoError(t, err)
		assert.Equal(t, int64(1), entry.State.Jobs)

		require.NoError(t, store.Remove(ctx, "acme", theirs.Name, ""))
		require.ErrorIs(t, store.Remove(ctx, "acme", theirs.Name, ""), schedules.ErrNotFound)
		require.ErrorIs(t, store.Advance(ctx, theirs, tick, nil, 0, nil), schedules.ErrNotFound, "it does not come back")
	})
}

func TestSchedulesOfTheConfiguration(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, store *schedules.Store, _ redis.UniversalClient) {
		ctx := t.Context()
		configured := complete(t, func(s *schedules.Schedule) { s.Source = schedules.SourceConfig })
		require.NoError(t, store.Put(ctx, configured))
		own := configured
		own.Source = ""
		require.ErrorIs(t, store.Put(ctx, own), schedules.ErrConfigured)
		require.ErrorIs(t, store.Remove(ctx, "default", own.Name, ""), schedules.ErrConfigured)
		_, err := store.Pause(ctx, "default", own.Name, true)
		require.NoError(t, err, "but it may be paused")
		require.NoError(t, store.Put(ctx, configured))
		entry, err := store.Get(ctx, "default", own.Name)
		require.NoError(t, err)
		require.True(t, entry.State.Paused, "and stays so when the configuration is read again")
	})
}

// Changes of the state at one time are all kept.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, store *schedules.Store, _ redis.UniversalClient) {
		ctx, s := t.Context(), complete(t, nil)
		require.NoError(t, store.Put(ctx, s))
		var group sync.WaitGroup
		base := time.Now().Add(time.Hour)
		for i := range 5 {
			group.Go(func() {
				err := store.Advance(ctx, s, base.Add(time.Duration(i)*time.Second), []string{"j"}, 0, nil)
				assert.NoError(t, err)
			})
		}
		group.Wait()
		entry, err := store.Get(ctx, "default", s.Name)
		require.NoError(t, err)
		require.True(t, entry.State.LastTick.Equal(base.Add(4*time.Second)))
	})
}

// What somebody else wrote hides no other schedule.
func TestWhatIsNoSchedule(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, store *schedules.Store, client redis.UniversalClient) {
		require.NoError(t, store.Put(t.Context(), complete(t, nil)))
		require.NoError(t, client.HSet(t.Context(), keyspace.New("").Schedules(), "default/odd", "no JSON").Err())
		list, err := store.List(t.Context(), "")
		require.ErrorContains(t, err, "default/odd")
		require.Len(t, list, 1)
	})
}

// With keys nobody who reads Redis learns what a schedule asks for.
func TestSealedSchedules(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	plain := complete(t, func(s *schedules.Schedule) { s.Name, s.Job.Input = "plain", "before" })
	require.NoError(t, schedules.New(client, keyspace.New(""), nil).Put(t.Context(), plain))
	key, err := seal.ParseKey(seal.NewKey())
	require.NoError(t, err)
	sealer, err := seal.New(seal.Key{ID: "k1", Secret: key})
	require.NoError(t, err)
	store := schedules.New(client, keyspace.New(""), sealer)
	planted := complete(t, func(s *schedules.Schedule) { s.Job.Input = "planted words" })
	require.NoError(t, store.Put(t.Context(), planted))
	require.NotContains(t, server.Dump(), "planted words")
	list, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{"planted words", "before"}, []string{list[0].Job.Input, list[1].Job.Input})

	list, err = schedules.New(client, keyspace.New(""), nil).List(t.Context(), "")
	require.ErrorIs(t, err, seal.ErrUnreadable)
	require.Len(t, list, 1, "and hides no other")
	paused, err := schedules.New(client, keyspace.New(""), nil).Pause(t.Context(), "default", planted.Name, true)
	require.NoError(t, err, "it need not be read for it")
	require.True(t, paused.State.Paused)
	require.NoError(t, schedules.New(client, keyspace.New(""), nil).Remove(t.Context(), "default", planted.Name, ""))
}

func TestTheScriptKeepsItsForm(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("advance.lua")
	require.NoError(t, err)
	header, body, _ := strings.Cut(string(text), "\n\n")
	for _, part := range []string{"-- advance: ", "KEYS[2]", "ARGV[3]", "RETURNS", "CLOCK", "WRITES"} {
		assert.Contains(t, header, part)
	}
	for _, line := range strings.Split(body, "\n")[2:] {
		assert.NotContains(t, line, "ARGV")
	}
}
