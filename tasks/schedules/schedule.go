// Package schedules keeps what is to be enqueued again and again: a schedule is a job and the times at which it is made,
// its ticks. The leader makes the jobs; each tick's has an id that is made from the tick, so that it is made once however
// many schedulers there are and whichever of them dies.
//
// All schedules stand in one hash, and what has become of them in another, in one slot.
package schedules

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/forebay-queue/forebay/tasks"
)

// Missed says what becomes of ticks that came while no scheduler led.
type Missed string

// The policies for missed ticks. A tick counts as missed once it is more than Grace late.
const (
	// Skip makes no job of them.
	Skip Missed = "skip"
	// Once makes one job for the last of them, unless a tick has come since that is not missed.
	Once Missed = "once"
	// All makes one job for each, up to the last 100.
	All Missed = "all"
)

const (
	// Grace is how late a tick may be and not count as missed: longer than it takes until another scheduler leads.
	Grace = time.Minute
	// MostMissed is how many missed ticks are made up for.
	MostMissed = 100
	// SourceConfig is the source of a schedule that stands in the configuration.
	SourceConfig = "config"
)

// Schedule is a job that is made again and again.
type Schedule struct {
	// Name is unique within the tenant, [A-Za-z0-9_.-]{1,64}.
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	// Cron says when: five fields (minute, hour, day of the month, month, day of the week), @hourly, @daily, @weekly,
	// @monthly, @yearly, or @every and a duration of at least 1s.
	Cron string `json:"cron"`
	// TimeZone is in which zone: a name of the IANA database. Defaults to UTC.
	TimeZone string `json:"time_zone"`
	// Missed defaults to Skip.
	Missed Missed `json:"missed"`
	// ExpiresAfter is how long after its tick a job ends as expired. Defaults to the catalog's max_age.
	ExpiresAfter tasks.Duration `json:"expires_after,omitempty"`
	// Job is what is made at every tick, without id, run_at and deadline.
	Job tasks.Job `json:"job"`
	// Source is SourceConfig, or empty for one that somebody has added.
	Source string `json:"source,omitempty"`
	// Salt is random, and part of the ids of its jobs: nobody else can take them before their ticks come. Put makes it.
	Salt      string    `json:"salt,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// State is what has become of a schedule.
type State struct {
	// Paused schedules make no jobs; the ticks meanwhile are not missed.
	Paused bool `json:"paused,omitempty"`
	// LastTick is the last one that was dealt with; ticks up to it are never made again. At first, when it was added.
	LastTick time.Time `json:"last_tick"`
	// LastJob is the job of the last tick that had one, Jobs how many there were.
	LastJob string `json:"last_job,omitempty"`
	Jobs    int64  `json:"jobs,omitempty"`
	// Missed is how many ticks were missed and not made up for.
	Missed int64 `json:"missed,omitempty"`
	// LastError is why the last tick's job was not made; empty after one that was.
	LastError string `json:"last_error,omitempty"`
}

// Entry is a schedule and its state.
type Entry struct {
	Schedule

	State State `json:"state"`
	// Next is the next tick; nil where there is none, as for one that is paused.
	Next *time.Time `json:"next,omitempty"`
}

// ErrInvalid is wrapped by what is wrong with a schedule.
var ErrInvalid = errors.New("invalid schedule")

// FieldError says what is wrong with one field of a schedule.
type FieldError struct{ Field, Problem string }

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Unwrap makes every FieldError an ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// Complete fills in the defaults and checks everything that needs no catalog. It joins all it finds, each a *FieldError.
func (s *Schedule) Complete(now time.Time) error {
	if s.Tenant == "" {
		s.Tenant = "default"
	}
	if s.TimeZone == "" {
		s.TimeZone = "UTC"
	}
	if s.Missed == "" {
		s.Missed = Skip
	}
	if s.CreatedAt.IsZero() {
		s.CreatedAt = now.UTC().Truncate(time.Second)
	}
	s.Job.Tenant = s.Tenant
	var problems []error
	refuse := func(field, format string, args ...any) {
		problems = append(problems, &FieldError{field, fmt.Sprintf(format, args...)})
	}
	if !tasks.ValidName(s.Name) {
		refuse("name", "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
	}
	if !tasks.ValidName(s.Tenant) {
		refuse("tenant", "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
	}
	if s.Missed != Skip && s.Missed != Once && s.Missed != All {
		refuse("missed", "must be skip, once or all, got %.20q", string(s.Missed))
	}
	if after := time.Duration(s.ExpiresAfter); after < 0 || after > 0 && after < time.Second {
		refuse("expires_after", "must be at least 1s, got %s", after)
	}
	if _, err := s.times(); err != nil {
		problems = append(problems, err)
	}
	for field, given := range map[string]bool{"id": s.Job.ID != "", "run_at": s.Job.RunAt != nil, "deadline": s.Job.Deadline != nil} {
		if given {
			refuse("job."+field, "is made anew for every tick; leave it out (see expires_after)")
		}
	}
	if len(problems) == 0 {
		for _, err := range unjoined(s.Job.Validate()) {
			if field := (*tasks.FieldError)(nil); errors.As(err, &field) {
				refuse("job."+field.Field, "%s", field.Problem)
			}
		}
	}
	return errors.Join(problems...)
}

func unjoined(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// times are the ticks of a schedule. The error is a *FieldError.
func (s *Schedule) times() (cron.Schedule, error) {
	if _, err := time.LoadLocation(s.TimeZone); err != nil || s.TimeZone == "Local" {
		return nil, &FieldError{"time_zone", fmt.Sprintf("must be a name of the IANA database, such as Europe/Berlin, got %.60q", s.TimeZone)}
	}
	if strings.Contains(s.Cron, "TZ=") {
		return nil, &FieldError{"cron", "names a time zone; give it as time_zone"}
	}
	times, err := cron.ParseStandard("CRON_TZ=" + s.TimeZone + " " + s.Cron)
	if err != nil || s.Cron == "" {
		return nil, &FieldError{"cron", fmt.Sprintf("%.60q is no time such as \"0 2 * * *\" (minute, hour, day, month, weekday), @daily or @every 15m", s.Cron)}
	}
	if text, is := strings.CutPrefix(s.Cron, "@every "); is { // the library would round it
		if every, _ := time.ParseDuration(text); every < time.Second || every%time.Second != 0 {
			return nil, &FieldError{"cron", fmt.Sprintf("must be @every with whole seconds, 1s or more, got %.20q", text)}
		}
	}
	if times.Next(s.CreatedAt).IsZero() {
		return nil, &FieldError{"cron", fmt.Sprintf("%.60q never comes", s.Cron)}
	}
	return times, nil
}

// Next is the first tick after a time; the zero time where there is none. Those of @every are counted from the schedule's
// creation, so that they do not move with whoever asks.
func (s *Schedule) Next(after time.Time) time.Time {
	times, err := s.times()
	if err != nil {
		return time.Time{}
	}
	if every, is := times.(cron.ConstantDelaySchedule); is {
		if after.Before(s.CreatedAt) {
			after = s.CreatedAt
		}
		return after.Add(every.Delay - after.Sub(s.CreatedAt)%every.Delay).UTC()
	}
	next := times.Next(after)
	zone, _ := time.LoadLocation(s.TimeZone) // times has looked it up
	if !next.IsZero() && s.atHours() && sameHands(after.In(zone), next.In(zone)) {
		next = times.Next(next) // the clocks went back, and the time comes a second time
	}
	return next.UTC()
}

// atHours tells that a schedule names the hours at which it ticks, and is not one of every so many.
func (s *Schedule) atHours() bool {
	fields := strings.Fields(s.Cron)
	return s.Cron != "@hourly" && (len(fields) < 2 || !strings.HasPrefix(fields[1], "*"))
}

// sameHands tells that a clock shows the same at two times.
func sameHands(a, b time.Time) bool { return a.Format(time.DateTime) == b.Format(time.DateTime) }

// Due are the ticks after a time and up to another one of which jobs are to be made, the oldest first, and how many were
// missed beside them. Last is the last tick of all, zero where there was none.
func (s *Schedule) Due(after, now time.Time) (due []time.Time, last time.Time, missed int64) {
	for tick := s.Next(after); !tick.IsZero() && !tick.After(now); tick = s.Next(tick) {
		last = tick
		due = append(due, tick)
		if len(due) > MostMissed {
			due = due[1:]
			missed++
		}
	}
	keep := 0 // from where on they are kept
	for s.Missed != All && keep < len(due) && now.Sub(due[keep]) > Grace {
		keep++
	}
	if s.Missed == Once && keep == len(due) && keep > 0 {
		keep--
	}
	if keep > 0 {
		missed += int64(keep)
		due = due[keep:]
	}
	return due, last, missed
}

// JobAt is the job of a tick.
func (s *Schedule) JobAt(tick time.Time) tasks.Job {
	job := s.Job
	job.ID = s.JobID(tick)
	if s.ExpiresAfter > 0 {
		job.Deadline = new(tick.Add(time.Duration(s.ExpiresAfter)))
	}
	return job
}

// JobID is the id of a tick's job.
func (s *Schedule) JobID(tick time.Time) string {
	sum := sha256.Sum256([]byte(s.Tenant + "/" + s.Name + "/" + s.Salt))
	return strings.ReplaceAll(s.Name, ".", "_") + "-" + hex.EncodeToString(sum[:8]) + "-" + tick.UTC().Format("20060102T150405Z")
}
