package ticker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// term is the leader's, which ends when it is lost.
type term struct{ lost atomic.Bool }

func (t *term) Err() error {
	if t.lost.Load() {
		return errors.New("leads no more")
	}
	return nil
}

// bundle is a deployment with schedules, in a bubble.
type bundle struct {
	t         *testing.T
	redis     *redis.Client
	store     *jobstore.Store
	schedules *schedules.Store
	catalog   *catalog.Catalog
}

func inBubble(t *testing.T, test func(b bundle)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		store, err := jobstore.New(jobstore.Config{Redis: client})
		require.NoError(t, err)
		defer store.Close()
		price := 2.5
		known := &catalog.Catalog{
			Accounts:     map[string]*catalog.Account{"local": {}},
			Endpoints:    map[string]*catalog.Endpoint{"here": {Account: "local", Priority: 1, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone}},
			Models:       map[string]*catalog.Model{"small": {Output: &price}},
			Tiers:        []catalog.Tier{{Name: "low", Models: []string{"small"}}},
			FallbackTier: "low",
			TaskTypes:    map[string]*catalog.TaskType{"fast_summary": {Model: "small"}},
		}
		require.NoError(t, known.Validate())
		test(bundle{t, client, store, schedules.New(client, store.Keys(), nil), known})
	})
}

// lead has a leader at work until its term ends, or the test.
func (b bundle) lead(configured ...schedules.Schedule) (lost *term, stop func()) {
	lost = &term{}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(Config{
			Redis: b.redis, Store: b.store, Catalog: b.catalog, Configured: configured, Term: lost, Log: zerolog.Nop(),
		}).Run(ctx)
	}()
	return lost, func() { cancel(); <-done }
}

func (b bundle) every(cron string, change func(s *schedules.Schedule)) schedules.Schedule {
	b.t.Helper()
	s := schedules.Schedule{Name: "report", Cron: cron, Job: tasks.Job{TaskType: "fast_summary", Input: "the day"}}
	if change != nil {
		change(&s)
	}
	require.NoError(b.t, s.Complete(time.Now()))
	return s
}

// jobs are the ids of all jobs, and how many tasks there are.
func (b bundle) jobs() (ids []string, queued int64) {
	b.t.Helper()
	for shard := range 16 {
		page, err := b.store.Page(b.t.Context(), shard, jobstore.SetOpen, 0, 10_000)
		require.NoError(b.t, err)
		ids = append(ids, page...)
	}
	return ids, b.redis.LLen(b.t.Context(), "asynq:{default}:pending").Val()
}

func TestEveryTickHasItsJob(t *testing.T) {
	inBubble(t, func(b bundle) {
		s := b.every("@every 10s", nil)
		require.NoError(b.t, b.schedules.Put(b.t.Context(), s))
		_, stop := b.lead()
		defer stop()
		time.Sleep(100*time.Second + 2*time.Second)
		ids, queued := b.jobs()
		require.Len(b.t, ids, 10)
		require.Equal(b.t, int64(10), queued)
		entry, err := b.schedules.Get(b.t.Context(), "default", "report")
		require.NoError(b.t, err)
		record, err := b.store.Get(b.t.Context(), entry.JobID(s.CreatedAt.Add(50*time.Second)))
		require.NoError(b.t, err)
		require.Equal(b.t, "report", record.Job.Metadata["schedule"])
		require.Equal(b.t, s.CreatedAt.Add(50*time.Second).Format(time.RFC3339), record.Job.Metadata["tick"])
		require.Equal(b.t, int64(10), entry.State.Jobs)
	})
}

// A hundred ticks while one leader after the other is lost, some of which go on for a while as if they led.
func TestEveryTickOnceWhoeverLeads(t *testing.T) {
	inBubble(t, func(b bundle) {
		s := b.every("@every 2s", nil)
		require.NoError(b.t, b.schedules.Put(b.t.Context(), s))
		var stops []func()
		for range 40 {
			_, stop := b.lead()
			stops = append(stops, stop)
			time.Sleep(5 * time.Second)
			if len(stops) > 2 { // three at a time lead
				stops[0]()
				stops = stops[1:]
			}
		}
		time.Sleep(2 * time.Second)
		for _, stop := range stops {
			stop()
		}
		ids, queued := b.jobs()
		ticks := int(time.Since(s.CreatedAt) / (2 * time.Second))
		require.InDelta(b.t, ticks, len(ids), 1)
		require.Len(b.t, ids, int(queued), "and one task")
	})
}

// A leader that dies between a tick's job and the note of it leaves the tick to the next one, which makes none again.
func TestADeathBehindTheJob(t *testing.T) {
	inBubble(t, func(b bundle) {
		s := b.every("@every 10s", nil)
		require.NoError(b.t, b.schedules.Put(b.t.Context(), s))
		time.Sleep(10*time.Second + time.Millisecond)
		half := New(Config{Redis: b.redis, Store: b.store, Catalog: b.catalog, Term: &term{}, Log: zerolog.Nop()})
		read, err := b.schedules.Get(b.t.Context(), "default", "report")
		require.NoError(b.t, err)
		_, err = half.make(b.t.Context(), read.Schedule, s.CreatedAt.Add(10*time.Second), time.Now())
		require.NoError(b.t, err)
		_, stop := b.lead()
		defer stop()
		time.Sleep(2 * time.Second)
		ids, queued := b.jobs()
		require.Len(b.t, ids, 1)
		require.Equal(b.t, int64(1), queued)
		entry, err := b.schedules.Get(b.t.Context(), "default", "report")
		require.NoError(b.t, err)
		require.Equal(b.t, int64(1), entry.State.Jobs)
	})
}

func TestMissedTicks(t *testing.T) {
	for missed, want := range map[schedules.Missed]int{schedules.Skip: 0, schedules.Once: 1, schedules.All: 5} {
		t.Run(string(missed), func(t *testing.T) {
			inBubble(t, func(b bundle) {
				s := b.every("@every 10m", func(s *schedules.Schedule) { s.Missed = missed })
				require.NoError(b.t, b.schedules.Put(b.t.Context(), s))
				time.Sleep(55 * time.Minute) // nobody leads
				_, stop := b.lead()
				defer stop()
				time.Sleep(2 * time.Second)
				ids, _ := b.jobs()
				require.Len(b.t, ids, want)
				entry, err := b.schedules.Get(b.t.Context(), "default", "report")
				require.NoError(b.t, err)
				require.Equal(b.t, int64(5-want), entry.State.Missed)
				time.Sleep(6 * time.Minute)
				ids, _ = b.jobs()
				require.Len(b.t, ids, want+1, "the next one comes in time")
			})
		})
	}
}

func TestPausedAndRemoved(t *testing.T) {
	inBubble(t, func(b bundle) {
		s := b.every("@every 10s", func(s *schedules.Schedule) { s.Missed = schedules.All })
		require.NoError(b.t, b.schedules.Put(b.t.Context(), s))
		_, stop := b.lead()
		defer stop()
		_, err := b.schedules.Pause(b.t.Context(), "default", "report", true)
		require.NoError(b.t, err)
		time.Sleep(time.Minute)
		ids, _ := b.jobs()
		require.Empty(b.t, ids)
		_, err = b.schedules.Pause(b.t.Context(), "default", "report", false)
		require.NoError(b.t, err)
		time.Sleep(20*time.Second + 2*time.Second)
		ids, _ = b.jobs()
		require.Len(b.t, ids, 2, "those of the pause are not made up for")
		require.NoError(b.t, b.schedules.Remove(b.t.Context(), "default", "report", ""))
		time.Sleep(time.Minute)
		ids, _ = b.jobs()
		require.Len(b.t, ids, 2)
	})
}

// A job that the catalog refuses by now is told, and stops neither the schedule nor others.
func TestARefusedJob(t *testing.T) {
	inBubble(t, func(b bundle) {
		bad := b.every("@every 10s", func(s *schedules.Schedule) { s.Name, s.Job.TaskType = "bad", "gone" })
		require.NoError(b.t, b.schedules.Put(b.t.Context(), bad))
		require.NoError(b.t, b.schedules.Put(b.t.Context(), b.every("@every 10s", nil)))
		_, stop := b.lead()
		defer stop()
		time.Sleep(22 * time.Second)
		ids, _ := b.jobs()
		require.Len(b.t, ids, 2)
		entry, err := b.schedules.Get(b.t.Context(), "default", "bad")
		require.NoError(b.t, err)
		require.Contains(b.t, entry.State.LastError, `task_type: no task type "gone"`)
		kinds := map[string]int{}
		for _, event := range b.redis.XRange(b.t.Context(), b.store.Keys().Events(), "-", "+").Val() {
			kinds[fmt.Sprint(event.Values["type"])]++
		}
		require.Equal(b.t, map[string]int{"schedule.refused": 2}, kinds)
	})
}

// A tick's id that somebody else has is told, and not taken for the tick's job.
func TestATicksIDThatIsTaken(t *testing.T) {
	inBubble(t, func(b bundle) {
		s := b.every("@every 10s", nil)
		require.NoError(b.t, b.schedules.Put(b.t.Context(), s))
		read, err := b.schedules.Get(b.t.Context(), "default", "report")
		require.NoError(b.t, err)
		require.NotEqual(b.t, s.JobID(s.CreatedAt), read.JobID(s.CreatedAt), "who does not know the salt does not know the id")
		theirs, err := b.catalog.Prepare(tasks.Job{
			ID: read.JobID(s.CreatedAt.Add(10 * time.Second)), Tenant: "acme", TaskType: "fast_summary", Input: "squat",
		}, time.Now())
		require.NoError(b.t, err)
		_, err = b.store.Create(b.t.Context(), jobstore.NewJob(theirs))
		require.NoError(b.t, err)
		_, stop := b.lead()
		defer stop()
		time.Sleep(12 * time.Second)
		entry, err := b.schedules.Get(b.t.Context(), "default", "report")
		require.NoError(b.t, err)
		require.Zero(b.t, entry.State.Jobs)
		require.Contains(b.t, entry.State.LastError, "the id is taken")
	})
}

// With all, ticks whose jobs would have expired are counted as missed.
func TestMissedTicksThatWouldHaveExpired(t *testing.T) {
	inBubble(t, func(b bundle) {
		s := b.every("@every 10s", func(s *schedules.Schedule) {
			s.Missed, s.ExpiresAfter = schedules.All, tasks.Duration(15*time.Second)
		})
		require.NoError(b.t, b.schedules.Put(b.t.Context(), s))
		time.Sleep(61 * time.Second)
		_, stop := b.lead()
		defer stop()
		time.Sleep(2 * time.Second)
		entry, err := b.schedules.Get(b.t.Context(), "default", "report")
		require.NoError(b.t, err)
		require.Empty(b.t, entry.State.LastError)
		require.Equal(b.t, int64(2), entry.State.Jobs)
		require.Equal(b.t, int64(4), entry.State.Missed)
	})
}

func TestTheConfigurationsSchedules(t *testing.T) {
	inBubble(t, func(b bundle) {
		configured := b.every("@every 10s", func(s *schedules.Schedule) { s.Name = "configured" })
		require.NoError(b.t, b.schedules.Put(b.t.Context(), b.every("@every 10s", nil)))
		_, stop := b.lead(configured)
		time.Sleep(12 * time.Second)
		stop()
		list, err := b.schedules.List(b.t.Context(), "")
		require.NoError(b.t, err)
		require.Len(b.t, list, 2)
		require.Equal(b.t, schedules.SourceConfig, list[0].Source)
		require.Equal(b.t, int64(1), list[0].State.Jobs)

		_, stop = b.lead() // which has another configuration
		time.Sleep(2 * time.Second)
		stop()
		list, err = b.schedules.List(b.t.Context(), "")
		require.NoError(b.t, err)
		require.Len(b.t, list, 1, "that of nobody's configuration stays")
	})
}

// A leader that has lost its term makes nothing.
func TestALeaderThatIsNone(t *testing.T) {
	inBubble(t, func(b bundle) {
		require.NoError(b.t, b.schedules.Put(b.t.Context(), b.every("@every 10s", nil)))
		lost, stop := b.lead()
		defer stop()
		time.Sleep(5 * time.Second)
		lost.lost.Store(true)
		time.Sleep(time.Minute)
		ids, _ := b.jobs()
		require.Empty(b.t, ids)
	})
}
