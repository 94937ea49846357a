package schedules_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func nightly(change func(s *schedules.Schedule)) schedules.Schedule {
	s := schedules.Schedule{
		Name: "nightly.report", Cron: "30 2 * * *", CreatedAt: began,
		Job: tasks.Job{TaskType: "fast_summary", Input: "the day"},
	}
	if change != nil {
		change(&s)
	}
	return s
}

func TestScheduleRefusals(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(s *schedules.Schedule){
		"name: must be 1 to 64 characters":           func(s *schedules.Schedule) { s.Name = "a b" },
		"tenant: must be 1 to 64 characters":         func(s *schedules.Schedule) { s.Tenant = "a/b" },
		"missed: must be skip, once or all":          func(s *schedules.Schedule) { s.Missed = "some" },
		`cron: "61 * * * *" is no time such as`:      func(s *schedules.Schedule) { s.Cron = "61 * * * *" },
		`cron: "" is no time`:                        func(s *schedules.Schedule) { s.Cron = "" },
		"cron: names a time zone":                    func(s *schedules.Schedule) { s.Cron = "TZ=UTC 0 2 * * *" },
		`cron: "0 0 30 2 *" never comes`:             func(s *schedules.Schedule) { s.Cron = "0 0 30 2 *" },
		"cron: must be @every with whole seconds":    func(s *schedules.Schedule) { s.Cron = "@every 100ms" },
		"time_zone: must be a name":                  func(s *schedules.Schedule) { s.TimeZone = "Mars/Olympus" },
		"time_zone: must be a name of the IANA data": func(s *schedules.Schedule) { s.TimeZone = "Local" },
		"expires_after: must be at least 1s":         func(s *schedules.Schedule) { s.ExpiresAfter = 5 },
		"job.id: is made anew for every tick":        func(s *schedules.Schedule) { s.Job.ID = "mine" },
		"job.run_at: is made anew":                   func(s *schedules.Schedule) { s.Job.RunAt = &began },
		"job.input: is missing or empty":             func(s *schedules.Schedule) { s.Job.Input = "" },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			s := nightly(change)
			err := s.Complete(began)
			require.ErrorContains(t, err, want)
			require.ErrorIs(t, err, schedules.ErrInvalid)
		})
	}
	s := nightly(nil)
	require.NoError(t, s.Complete(began))
	assert.Equal(t, [4]string{"default", "UTC", "skip", "default"}, [4]string{s.Tenant, s.TimeZone, string(s.Missed), s.Job.Tenant})
}

func TestNextIsInTheZone(t *testing.T) {
	t.Parallel()
	s := nightly(func(s *schedules.Schedule) { s.TimeZone = "Europe/Berlin" })
	require.NoError(t, s.Complete(began))
	require.Equal(t, "2026-03-02T01:30:00Z", s.Next(began).Format(time.RFC3339))
	// The clocks go forward at 2:00 on 2026-03-29: there is no 2:30, and the night has no tick.
	night := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	require.Equal(t, "2026-03-30T00:30:00Z", s.Next(night).Format(time.RFC3339))
}

// Ticks of @every are where the schedule's creation puts them, whoever asks when.
func TestEveryDoesNotMove(t *testing.T) {
	t.Parallel()
	s := nightly(func(s *schedules.Schedule) { s.Cron = "@every 15m" })
	require.NoError(t, s.Complete(began))
	require.Equal(t, began.Add(15*time.Minute), s.Next(began))
	require.Equal(t, began.Add(45*time.Minute), s.Next(began.Add(37*time.Minute)))
	require.Equal(t, began.Add(15*time.Minute), s.Next(began.Add(-time.Hour)))
}

func TestDue(t *testing.T) {
	t.Parallel()
	hour := func(n int) time.Time { return began.Add(time.Duration(n) * time.Hour) }
	for _, row := range []struct {
		missed schedules.Missed
		now    time.Time
		due    []time.Time
		lost   int64
	}{
		{schedules.Skip, hour(1).Add(time.Second), []time.Time{hour(1)}, 0},
		{schedules.Skip, hour(3).Add(time.Minute), []time.Time{hour(3)}, 2},
		{schedules.Skip, hour(3).Add(2 * time.Minute), nil, 3},
		{schedules.Once, hour(3).Add(2 * time.Minute), []time.Time{hour(3)}, 2},
		{schedules.Once, hour(3).Add(time.Second), []time.Time{hour(3)}, 2},
		{schedules.All, hour(3).Add(2 * time.Minute), []time.Time{hour(1), hour(2), hour(3)}, 0},
		{schedules.All, began.Add(time.Minute), nil, 0},
	} {
		s := nightly(func(s *schedules.Schedule) { s.Cron, s.Missed = "@hourly", row.missed })
		require.NoError(t, s.Complete(began))
		due, last, lost := s.Due(began, row.now)
		assert.Equal(t, row.due, append([]time.Time(nil), due...), "%s at %s", row.missed, row.now)
		assert.Equal(t, row.lost, lost)
		if len(row.due)+int(row.lost) > 0 {
			assert.Equal(t, row.now.Truncate(time.Hour), last)
		}
	}
	s := nightly(func(s *schedules.Schedule) { s.Cron, s.Missed = "* * * * *", schedules.All })
	require.NoError(t, s.Complete(began))
	due, _, lost := s.Due(began, hour(5))
	assert.Len(t, due, schedules.MostMissed)
	assert.Equal(t, int64(200), lost)
}

// However the time is cut into looks, each tick is due or missed once.
func TestEveryTickIsDealtWithOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := nightly(func(s *schedules.Schedule) {
			s.Cron = rapid.SampledFrom([]string{"@every 7s", "@every 1m", "* * * * *", "*/5 8-17 * * 1-5", "@hourly"}).Draw(t, "cron")
			s.TimeZone = rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/St_Johns"}).Draw(t, "zone")
			s.Missed = rapid.SampledFrom([]schedules.Missed{schedules.Skip, schedules.Once, schedules.All}).Draw(t, "missed")
		})
		require.NoError(t, s.Complete(began))
		after, now := began, began
		seen := map[time.Time]bool{}
		var dealt, all int64
		for range rapid.IntRange(1, 30).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
			due, last, lost := s.Due(after, now)
			for _, tick := range due {
				require.False(t, seen[tick], "made twice")
				require.False(t, tick.After(now))
				seen[tick] = true
			}
			dealt += int64(len(due)) + lost
			if !last.IsZero() {
				after = last
			}
		}
		for tick := s.Next(began); !tick.After(now); tick = s.Next(tick) {
			all++
		}
		require.Equal(t, all, dealt)
	})
}

func TestJobsOfTicks(t *testing.T) {
	t.Parallel()
	s := nightly(func(s *schedules.Schedule) { s.ExpiresAfter = tasks.Duration(time.Hour) })
	require.NoError(t, s.Complete(began))
	tick := s.Next(began)
	job := s.JobAt(tick)
	assert.Regexp(t, `^nightly_report-[0-9a-f]{16}-20260302T023000Z$`, job.ID)
	assert.Equal(t, tick.Add(time.Hour), *job.Deadline)
	other := s
	other.Tenant = "acme"
	assert.NotEqual(t, job.ID, other.JobID(tick), "names are a tenant's own")
}

func TestTheNightInWhichClocksGoBack(t *testing.T) {
	t.Parallel()
	s := nightly(func(s *schedules.Schedule) { s.TimeZone = "Europe/Berlin" })
	require.NoError(t, s.Complete(began))
	first := s.Next(time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC)) // 2:30 comes at 0:30 and at 1:30 UTC on the 25th
	require.Equal(t, "2026-10-25T00:30:00Z", first.Format(time.RFC3339))
	require.Equal(t, "2026-10-26T01:30:00Z", s.Next(first).Format(time.RFC3339))
}

func TestHoursGoOnWhenClocksGoBack(t *testing.T) {
	t.Parallel()
	for _, times := range []string{"@hourly", "0 * * * *", "0 */1 * * *"} {
		s := nightly(func(s *schedules.Schedule) { s.TimeZone, s.Cron = "Europe/Berlin", times })
		require.NoError(t, s.Complete(began))
		first := s.Next(time.Date(2026, 10, 24, 23, 30, 0, 0, time.UTC))
		require.Equal(t, "2026-10-25T00:00:00Z", first.Format(time.RFC3339))
		require.Equal(t, "2026-10-25T01:00:00Z", s.Next(first).Format(time.RFC3339))
	}
}
