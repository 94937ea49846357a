// Package ticker makes the jobs of schedules: the leader looks every second which ticks have come.
//
// A tick's job has an id that is made from the tick, so that a leader which makes it once more, because another one died
// behind it or lost its lease, makes none.
package ticker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/failpoint"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

const (
	// lookEvery is how often the schedules are looked at.
	lookEvery = time.Second
	// stepTimeout bounds what is done for one schedule.
	stepTimeout = 10 * time.Second
	// metaSchedule and metaTick are the metadata that tell a job's schedule, where there is room.
	metaSchedule, metaTick = "schedule", "tick"
	maxMetadata            = 16
	// codeInvalid is what other ways in say of such a job, too.
	codeInvalid = "invalid_job"
)

// Term is the leader's.
type Term interface {
	// Err is not nil once this process leads no more.
	Err() error
}

// Config configures a Ticker. Every field but Log and Registerer is required.
type Config struct {
	Redis   redis.UniversalClient
	Store   *jobstore.Store
	Catalog *catalog.Catalog
	// Configured are the schedules of the configuration; they must have passed Complete.
	Configured []schedules.Schedule
	Term       Term
	Log        zerolog.Logger
	// Registerer takes what is counted.
	Registerer prometheus.Registerer
}

// Ticker makes the jobs of one deployment's schedules. It is used by one goroutine.
type Ticker struct {
	config    Config
	schedules *schedules.Store
	queue     *asynq.Client
	intake    *metrics.Intake
	// synced tells that the schedules of the configuration have been written.
	synced bool
}

// New returns a Ticker that has sent nothing yet.
func New(config Config) *Ticker {
	return &Ticker{
		config: config, schedules: schedules.New(config.Redis, config.Store.Keys(), config.Store.Sealer()),
		queue: asynq.NewClientFromRedisClient(config.Redis), intake: metrics.NewIntake(config.Registerer, metrics.WaySchedule),
	}
}

// Run makes jobs until the context ends.
func (t *Ticker) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var told time.Time
	for ctx.Err() == nil {
		if err := t.round(ctx); err != nil && ctx.Err() == nil && t.config.Term.Err() == nil && time.Since(told) > time.Minute {
			told = time.Now()
			t.config.Log.Warn().Err(err).Msg("cannot look after the schedules at the moment; trying on")
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (t *Ticker) round(ctx context.Context) error {
	if !t.synced {
		if err := t.bounded(ctx, t.sync); err != nil {
			return err
		}
		t.synced = true
	}
	var list []schedules.Entry
	problem := t.bounded(ctx, func(ctx context.Context) (err error) {
		list, err = t.schedules.List(ctx, "")
		return err
	})
	problems := []error{problem}
	now := time.Now()
	for _, entry := range list {
		if entry.Next == nil || entry.Next.After(now) {
			continue
		}
		problems = append(problems, t.bounded(ctx, func(ctx context.Context) error { return t.tick(ctx, entry, now) }))
	}
	return errors.Join(problems...)
}

// bounded runs one step, unless this process leads no more.
func (t *Ticker) bounded(ctx context.Context, step func(context.Context) error) error {
	if err := t.config.Term.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return step(ctx)
}

// sync has the schedules of the configuration stand in Redis, and those that are in it no longer not.
func (t *Ticker) sync(ctx context.Context) error {
	list, err := t.schedules.List(ctx, "")
	if err != nil && list == nil {
		return err
	}
	for _, configured := range t.config.Configured {
		configured.Source = schedules.SourceConfig
		if err := t.schedules.Put(ctx, configured); err != nil {
			return err
		}
	}
	for _, entry := range list {
		kept := slices.ContainsFunc(t.config.Configured, func(s schedules.Schedule) bool {
			return s.Name == entry.Name && s.Tenant == entry.Tenant
		})
		if entry.Source == schedules.SourceConfig && !kept {
			if err := t.schedules.Remove(ctx, entry.Tenant, entry.Name, schedules.SourceConfig); err != nil {
				return err
			}
			t.config.Log.Info().Str("schedule", entry.Name).Str("tenant", entry.Tenant).Msg("removed a schedule that is in the configuration no more")
		}
	}
	return nil
}

// tick makes the jobs of the ticks that have come. The ticks count as dealt with once their jobs stand.
func (t *Ticker) tick(ctx context.Context, entry schedules.Entry, now time.Time) error {
	after := entry.State.LastTick
	if entry.CreatedAt.After(after) {
		after = entry.CreatedAt
	}
	due, last, missed := entry.Due(after, now)
	var made []string
	var refused error
	for _, tick := range due {
		if after := time.Duration(entry.ExpiresAfter); after > 0 && !tick.Add(after).After(now) {
			missed++ // its job would have expired
			continue
		}
		id, err := t.make(ctx, entry.Schedule, tick, now)
		switch {
		case errors.Is(err, tasks.ErrInvalidJob):
			refused = err // and so would be the next try
			t.intake.Refused(codeInvalid)
		case errors.Is(err, jobstore.ErrIDConflict):
			if refused = t.own(ctx, entry.Schedule, id, err); refused == nil {
				made = append(made, id)
			}
		case err != nil:
			return fmt.Errorf("schedule %s of tenant %s: %w", entry.Name, entry.Tenant, err)
		default:
			made = append(made, id)
		}
	}
	failpoint.At("schedule.made")
	if err := t.schedules.Advance(ctx, entry.Schedule, last, made, missed, refused); err != nil {
		return err
	}
	log := t.config.Log.With().Str("schedule", entry.Name).Str("tenant", entry.Tenant).Time("tick", last).Logger()
	switch {
	case refused != nil:
		log.Error().Err(refused).Msg("the job of a schedule is refused")
		return events.Publish(ctx, t.config.Redis, t.config.Store.Keys(), "schedule.refused", "schedule", entry.Name, "tenant", entry.Tenant,
			"tick", last.Format(time.RFC3339))
	case missed > 0:
		log.Warn().Int64("missed", missed).Int("jobs", len(made)).Msg("a schedule has missed ticks")
		return events.Publish(ctx, t.config.Redis, t.config.Store.Keys(), "schedule.missed", "schedule", entry.Name, "tenant", entry.Tenant,
			"missed", missed, "jobs", len(made))
	}
	return nil
}

// own tells whether a job that has a tick's id and asks for something else is the schedule's own, made before the schedule
// was changed. One of another tenant is an error.
func (t *Ticker) own(ctx context.Context, schedule schedules.Schedule, id string, conflict error) error {
	record, err := t.config.Store.Get(ctx, id)
	if record != nil && record.Tenant == schedule.Tenant {
		return nil
	}
	return errors.Join(conflict, err)
}

// make makes the job of a tick: record, index and task, in this order, each repeatable.
func (t *Ticker) make(ctx context.Context, schedule schedules.Schedule, tick, now time.Time) (id string, err error) {
	job := schedule.JobAt(tick)
	span := beginSpan(&job, schedule, tick)
	defer func() { endSpan(span, err) }()
	if len(job.Metadata) <= maxMetadata-2 {
		metadata := map[string]string{metaSchedule: schedule.Name, metaTick: tick.Format(time.RFC3339)}
		for name, value := range job.Metadata {
			metadata[name] = value
		}
		job.Metadata = metadata
	}
	prepared, err := t.config.Catalog.Prepare(job, now)
	if err != nil {
		return "", err
	}
	created, err := t.config.Store.Create(ctx, jobstore.NewJob(prepared))
	if err != nil || created.Status.Ended() {
		return job.ID, err
	}
	if created.Created {
		t.intake.Accepted()
	}
	task, options, err := envelope.New(t.config.Store.Keys(), prepared.Job, created.Shard, created.Run)
	if err != nil {
		return "", err
	}
	if _, err := t.queue.EnqueueContext(ctx, task, options...); err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return "", fmt.Errorf("enqueue job %s: %w", job.ID, err)
	}
	return job.ID, nil
}
