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

// Reindex puts a job into the set of the index that its record belongs to, and out of the others; one that has ended not
// before everybody has been told of it who is to be.
func (s *Store) Reindex(ctx context.Context, record *Record) error {
	if err := s.handOver(ctx, record); err != nil {
		return err
	}
	at := record.FinishedAt
	if !record.Status.Ended() {
		at = deadlineOf(record.Job)
	}
	pipe := s.redis.Pipeline()
	queueMoves(ctx, pipe, s.moves(record.ID, indexOf(record.Status), at, indexOpen, indexEnded, indexDead))
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("index job %s: %w", record.ID, err)
	}
	return nil
}

// move adds a job to one set of the index, or takes it out.
type move struct {
	set   string // its key
	id    string
	out   bool
	score float64
}

// moves add the job to one set and take it out of those others that it may stand in.
func (s *Store) moves(id, name string, at time.Time, others ...string) []move {
	shard := keyspace.IndexShard(id)
	moves := []move{{set: s.keys.Index(shard, name), id: id, score: float64(at.UnixMilli())}}
	for _, other := range others {
		if other != name {
			moves = append(moves, move{set: s.keys.Index(shard, other), id: id, out: true})
		}
	}
	return moves
}

// queueMoves queues moves in as few commands as there are sets.
func queueMoves(ctx context.Context, pipe redis.Cmdable, moves []move) []redis.Cmder {
	in, out := map[string][]redis.Z{}, map[string][]any{}
	for _, m := range moves {
		if m.out {
			out[m.set] = append(out[m.set], m.id)
		} else {
			in[m.set] = append(in[m.set], redis.Z{Score: m.score, Member: m.id})
		}
	}
	commands := make([]redis.Cmder, 0, len(in)+len(out))
	for set, members := range in {
		commands = append(commands, pipe.ZAdd(ctx, set, members...))
	}
	for set, members := range out {
		commands = append(commands, pipe.ZRem(ctx, set, members...))
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
