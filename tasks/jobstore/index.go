package jobstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// The names of the index's sorted sets.
const (
	indexOpen  = "open"
	indexEnded = "ended"
	indexDead  = "dead"
)

// indexOf is the set that a job of that status stands in.
func indexOf(status tasks.Status) string {
	switch {
	case status == tasks.StatusFailed:
		return indexDead
	case status.Ended():
		return indexEnded
	default:
		return indexOpen
	}
}

// Reindex puts a job into the set of the index that its record belongs to, and out of the others.
func (s *Store) Reindex(ctx context.Context, record *Record) error {
	at := record.FinishedAt
	if !record.Status.Ended() {
		at = deadlineOf(record.Job)
	}
	pipe := s.redis.Pipeline()
	s.index(ctx, pipe, record.ID, indexOf(record.Status), at, indexOpen, indexEnded, indexDead)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("index job %s: %w", record.ID, err)
	}
	return nil
}

// index adds the job to one set and takes it out of those others that it may stand in.
func (s *Store) index(ctx context.Context, pipe redis.Cmdable, id, name string, at time.Time, others ...string) []redis.Cmder {
	shard := keyspace.IndexShard(id)
	commands := []redis.Cmder{
		pipe.ZAdd(ctx, s.keys.Index(shard, name), redis.Z{Score: float64(at.UnixMilli()), Member: id}),
	}
	for _, other := range others {
		if other != name {
			commands = append(commands, pipe.ZRem(ctx, s.keys.Index(shard, other), id))
		}
	}
	return commands
}

// deadlineOf is when the job expires; without a deadline, an hour that never comes.
func deadlineOf(job tasks.Job) time.Time {
	if job.Deadline == nil {
		return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return *job.Deadline
}

// unindex takes a job without a record out of the index.
func (s *Store) unindex(ctx context.Context, id string) error {
	shard := keyspace.IndexShard(id)
	pipe := s.redis.Pipeline()
	for _, name := range []string{indexOpen, indexEnded, indexDead} {
		pipe.ZRem(ctx, s.keys.Index(shard, name), id)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("take job %s out of the index: %w", id, err)
	}
	return nil
}
