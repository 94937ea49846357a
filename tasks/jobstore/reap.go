package jobstore

import (
	"context"
	_ "embed" // for the script
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
)

var (
	//go:embed reap.lua
	reapSource string

	reapScript = redis.NewScript(reapSource)
)

// Reap ends a job for which nobody acts: as failed, cancelled or expired, with the reason. It does so only while the
// record stands as it was read, and reports whether it did; a delivery that has taken the job since keeps it. Calls
// that were left open are the caller's to close first (CloseOrphans).
func (s *Store) Reap(ctx context.Context, record *Record, status tasks.Status, reason tasks.Failure, at time.Time) (bool, error) {
	const verb = "reap"
	if !status.Ended() || status == tasks.StatusSucceeded {
		return false, fmt.Errorf("reap job %s: the status %q is not an end without an answer", record.ID, status)
	}
	outcome := record.Outcome(status, at)
	outcome.Error = &reason
	result, err := s.resultText(verb, record.ID, record.Run, status, outcome, at)
	if err != nil {
		return false, err
	}
	r, err := s.run(ctx, call{
		verb: verb, id: record.ID, script: reapScript,
		keys: []string{s.keys.Job(record.ID), s.keys.JobDone(record.ID)},
		args: []any{
			record.Run, string(record.Status), record.Delivery, record.lastSeq(), string(status), result, formatTime(at),
			milliseconds(record.keptFor(status)),
		},
	})
	if err == nil && r.word == "committed" {
		s.ended(record.Job, status, outcome)
	}
	switch {
	case err != nil:
		return false, err
	case r.word == "committed" && record.hasWaysOut():
		return true, s.conclude(ctx, record.ID, tasks.TraceContext{})
	case r.word == "committed":
		pipe := s.redis.Pipeline()
		queueMoves(ctx, pipe, s.moves(record.ID, indexOf(status), at, indexOpen))
		if _, err := pipe.Exec(ctx); err != nil {
			return true, fmt.Errorf("index job %s, which is %s: %w", record.ID, status, err)
		}
		return true, s.reportEnd(ctx, record, status, outcome)
	case r.word == "refused", r.word == "changed", r.word == "not_found":
		return false, nil
	}
	return false, refused(verb, record.ID, r.word)
}
