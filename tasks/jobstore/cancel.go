package jobstore

import (
	"context"
	"fmt"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// maxRereads bounds how often a verb reads a record again because it changed in between.
const maxRereads = 10

// CancelReply is what came of a cancel.
type CancelReply struct {
	// Status is the one that stands: cancelled, running for a job that its worker will end, or the end it had.
	Status tasks.Status
	// Cancelled is set when this call has ended the job.
	Cancelled bool
	// Asked is set when the job runs and its worker has been asked to end it.
	Asked bool
	// Run, Priority and Shard say where the job's task is.
	Run      int
	Priority tasks.Priority
	Shard    keyspace.Shard
}

// Cancel ends a job that waits at once; a running one is asked to end, by a field of its record and on the cancel
// channel, on which its worker listens. A job that has ended is left alone. An empty tenant is an operator's, who
// may cancel every job; a job of another tenant is ErrNotFound.
func (s *Store) Cancel(ctx context.Context, id, tenant string) (CancelReply, error) {
	return s.cancelAs(ctx, id, tenant, cancelling{failure: tasks.Failure{
		Class: tasks.ClassCancelled, Code: "cancelled", Message: "cancelled before an answer came",
		Hint: "enqueue it under another id to run it after all",
	}})
}

// CodeWithdrawn is the code of a job that was withdrawn.
const CodeWithdrawn = "withdrawn"

// Withdraw ends a job that waits, whose user no longer waits for it, as cancelled. One that runs is left alone: what is
// out is paid for.
func (s *Store) Withdraw(ctx context.Context, id string) (CancelReply, error) {
	return s.cancelAs(ctx, id, "", cancelling{spare: "spare", failure: tasks.Failure{
		Class: tasks.ClassCancelled, Code: CodeWithdrawn, Message: "nobody waited for the answer any more, and no call was out",
		Hint: "reopen it to run it after all",
	}})
}

// cancelling is how a job is cancelled: with which failure, and whether one that runs is spared.
type cancelling struct {
	failure tasks.Failure
	spare   string
}

func (s *Store) cancelAs(ctx context.Context, id, tenant string, as cancelling) (CancelReply, error) {
	for range maxRereads {
		record, err := s.Get(ctx, id)
		if err != nil && (record == nil || record.Status.Ended()) { // what waits can be cancelled though its key is lost
			return CancelReply{}, err
		}
		if tenant != "" && tenant != record.Tenant {
			return CancelReply{}, refused("cancel", id, "not_found")
		}
		answer := CancelReply{Run: record.Run, Priority: record.Priority, Shard: record.Shard}
		if record.Status.Ended() {
			answer.Status = record.Status
			return answer, s.Report(ctx, record)
		}
		word, stands, err := s.cancel(ctx, record, as)
		answer.Status = stands
		switch {
		case err != nil:
			return CancelReply{}, err
		case word == "committed":
			answer.Cancelled = true
			return answer, nil
		case word == "refused":
			return answer, nil
		case word == "asked":
			answer.Asked = true
			if err := s.redis.Publish(ctx, s.keys.Cancel(), id).Err(); err != nil {
				return answer, fmt.Errorf("tell the workers to cancel job %s: %w", id, err)
			}
			return answer, nil
		case word != "changed":
			return CancelReply{}, refused("cancel", id, word)
		}
	}
	return CancelReply{}, fmt.Errorf("cancel job %s: its record changed %d times meanwhile; try again", id, maxRereads)
}

func (s *Store) cancel(ctx context.Context, record *Record, as cancelling) (word string, stands tasks.Status, err error) {
	now := time.Now()
	outcome := record.Outcome(tasks.StatusCancelled, now)
	outcome.Error = &as.failure
	result, err := s.resultText("cancel", record.ID, record.Run, tasks.StatusCancelled, outcome, now)
	if err != nil {
		return "", "", err
	}
	r, err := s.run(ctx, call{
		verb: "cancel", id: record.ID, script: cancelScript,
		keys: []string{s.keys.Job(record.ID), s.keys.JobDone(record.ID)},
		args: []any{record.Run, record.lastSeq(), result, formatTime(now), milliseconds(record.keptFor(tasks.StatusCancelled)), as.spare},
	})
	if err != nil || r.word != "committed" {
		return r.word, tasks.Status(r.text(0)), err
	}
	s.ended(record.Job, tasks.StatusCancelled, outcome)
	if record.unread { // it stays among the open ones until somebody can read who else is to be told
		return r.word, tasks.StatusCancelled, s.reportEnd(ctx, record, tasks.StatusCancelled, outcome)
	}
	if record.hasWaysOut() {
		return r.word, tasks.StatusCancelled, s.conclude(ctx, record.ID, tasks.TraceContext{})
	}
	pipe := s.redis.Pipeline()
	queueMoves(ctx, pipe, s.moves(record.ID, indexEnded, now, indexOpen))
	if _, err := pipe.Exec(ctx); err != nil {
		return "", "", fmt.Errorf("index job %s, which is cancelled: %w", record.ID, err)
	}
	return r.word, tasks.StatusCancelled, s.reportEnd(ctx, record, tasks.StatusCancelled, outcome)
}
