// Package deadletters tells operators how many dead letters there are, and how old they become: jobs that have failed and
// webhooks that were given up, which nobody has retried or discarded. Nothing here changes or removes one; that is for people to decide.
package deadletters

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// lookEvery is how often they are counted.
	lookEvery = time.Minute
	// stepTimeout bounds one look.
	stepTimeout = 10 * time.Second
	// mostLevels ends the numbers that are told of: 1, 10, 100 and so on to a billion.
	mostLevels = 10
)

// oldDays are the ages of the oldest that are told of, in days.
var oldDays = []int{1, 7, 30}

// Term is the leader's.
type Term interface {
	// Err is not nil once this process leads no more.
	Err() error
}

// Config configures a Watch. All of it is required but Log.
type Config struct {
	Redis redis.UniversalClient
	Keys  keyspace.Keyspace
	// Count counts the dead letters of each kind, such as "jobs".
	Count map[string]func(context.Context) (jobstore.Dead, error)
	Term  Term
	Log   zerolog.Logger
}

// Watch counts the dead letters of one deployment.
type Watch struct{ config Config }

// New returns a Watch that has not looked yet.
func New(config Config) *Watch { return &Watch{config} }

// Run looks until the context ends.
func (w *Watch) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := w.look(ctx); err != nil && ctx.Err() == nil && w.config.Term.Err() == nil {
			w.config.Log.Warn().Err(err).Msg("cannot count the dead letters at the moment; trying on")
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (w *Watch) look(ctx context.Context) error {
	var problems []error
	for kind, count := range w.config.Count {
		problems = append(problems, w.lookAt(ctx, kind, count))
	}
	return errors.Join(problems...)
}

func (w *Watch) lookAt(ctx context.Context, kind string, count func(context.Context) (jobstore.Dead, error)) error {
	if err := w.config.Term.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	dead, err := count(ctx)
	if err != nil {
		return err
	}
	level, passed := grown(dead.Count)
	age, days := old(dead.OldestAt, time.Now())
	pairs := []any{"kind", kind, "count", dead.Count}
	if dead.OldestAt != nil {
		pairs = append(pairs, "oldest_at", dead.OldestAt.Format(time.RFC3339))
	}
	if dead.Oldest != "" {
		pairs = append(pairs, "oldest", dead.Oldest)
	}
	return errors.Join(
		w.cross(ctx, "dead_letters.grown", kind, level, append(pairs[:len(pairs):len(pairs)], "passed", passed)),
		w.cross(ctx, "dead_letters.old", kind, age, append(pairs[:len(pairs):len(pairs)], "days", days)),
	)
}

func (w *Watch) cross(ctx context.Context, event, kind string, level int, pairs []any) error {
	told, err := events.Cross(ctx, w.config.Redis, w.config.Keys, event+"."+kind, level, event, pairs...)
	if told {
		w.config.Log.Warn().Str("event", event).Fields(pairs).Msg("dead letters wait for somebody to retry or discard them")
	}
	return err
}

// grown is the level of a number, and the power of ten that it has passed.
func grown(count int) (level, passed int) {
	for power := 1; level < mostLevels && count >= power; power *= 10 {
		level, passed = level+1, power
	}
	return level, passed
}

// old is the level of the oldest one's age, and the days that it has passed.
func old(at *time.Time, now time.Time) (level, days int) {
	for i, limit := range oldDays {
		if at != nil && now.Sub(*at) >= time.Duration(limit)*24*time.Hour {
			level, days = i+1, limit
		}
	}
	return level, days
}
