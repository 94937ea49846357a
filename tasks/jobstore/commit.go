package jobstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// Commit is the end of a job.
type Commit struct {
	ID string
	// Run is the run that the result belongs to.
	Run int
	// Delivery is the one that commits. It makes the commit repeatable: the same delivery committing the same
	// status once more is told that it has committed. Empty for whoever ends a job without a delivery.
	Delivery string
	// Status is one of the four ends.
	Status tasks.Status
	// Result is what came of it, best begun by Record.Outcome: a script reads no JSON, so it cannot add up what
	// the attempts cost. Response and Attempts in it are not used. FinishedAt defaults to now.
	Result tasks.Result
	// Response is the provider's body. It is kept byte for byte.
	Response []byte
	// Attempt is the end of the call that brought the result, if it is not written yet. It is written even when
	// the commit is refused.
	Attempt *tasks.Attempt
	// Retention is how long the record is kept. Defaults to DefaultRetention. A failed job's record is kept until
	// it is reopened, that of a member of a batch for batches.Kept, until Release, and one whose end a webhook tells until
	// WebhookTold.
	Retention time.Duration
	// Record is the job's, as the delivery read it: who is told of its end, its batch, reply stream or webhook, is found in
	// it. nil is for a job of which nobody is.
	Record *Record
}

// Committed is the answer to a commit.
type Committed struct {
	// Committed is false when the job had ended already, or belongs to a newer run.
	Committed bool
	// Status is the one that stands.
	Status tasks.Status
}

// Commit ends the job, if it has not ended and the run is the current one, and tells everybody who waits for it.
// It answers ErrNotFound for a record that is not there. After an error that may be temporary it is to be repeated:
// the answer can say Committed beside an error that is the index's.
func (s *Store) Commit(ctx context.Context, commit Commit) (Committed, error) {
	committed, err := s.SendCommit(ctx, commit)
	if err != nil {
		return Committed{}, err
	}
	return committed()
}

// SendCommit puts a commit on its way, together with those of concurrent callers where it can, and returns what waits
// for the answer of Commit. The index travels behind it, on the expectation that the commit is accepted; it is mended
// where it was not.
func (s *Store) SendCommit(ctx context.Context, commit Commit) (func() (Committed, error), error) {
	finishedAt := time.Now()
	if commit.Result.FinishedAt != nil {
		finishedAt = *commit.Result.FinishedAt
	}
	c, err := s.commitCall(commit, finishedAt)
	if err != nil {
		return nil, err
	}
	b := batched{call: c}
	if !commit.hasWaysOut() {
		b.moves = s.moves(commit.ID, indexOf(commit.Status), finishedAt, indexOpen)
	}
	wait := s.send(ctx, b)
	return func() (Committed, error) { return s.readCommitted(ctx, commit, c, wait()) }, nil
}

// member is the job's place in a batch, or nil.
func (c *Commit) member() *tasks.Member {
	if c.Record == nil {
		return nil
	}
	return c.Record.Job.Member
}

// hasWaysOut tells that somebody else is told of the job's end.
func (c *Commit) hasWaysOut() bool { return c.Record != nil && c.Record.hasWaysOut() }

func (s *Store) commitCall(commit Commit, finishedAt time.Time) (call, error) {
	const verb = "commit"
	if !commit.Status.Ended() {
		return call{}, fmt.Errorf("commit job %s: the status %q is not an end", commit.ID, commit.Status)
	}
	result, err := s.resultText(verb, commit.ID, commit.Run, commit.Status, commit.Result, finishedAt)
	if err != nil {
		return call{}, err
	}
	response, err := s.sealField(verb, commit.ID, fieldResponse, string(commit.Response))
	if err != nil {
		return call{}, err
	}
	seq, end, err := endOf(verb, commit.ID, commit.Attempt)
	if err != nil {
		return call{}, err
	}
	keep := commit.Retention
	if keep <= 0 {
		keep = DefaultRetention
	}
	if commit.member() != nil {
		keep = max(keep, batches.Kept)
	}
	if commit.Status == tasks.StatusFailed || commit.Record != nil && commit.Record.Job.Webhook.Wants(Event(commit.Status)) {
		keep = 0
	}
	return call{
		verb: verb, id: commit.ID, script: commitScript, keys: []string{s.keys.Job(commit.ID), s.keys.JobDone(commit.ID)},
		args: []any{
			commit.Run, commit.Delivery, string(commit.Status), result, response, formatTime(finishedAt),
			milliseconds(keep), seq, end,
		},
	}, nil
}

func (s *Store) readCommitted(ctx context.Context, commit Commit, c call, a answer) (Committed, error) {
	if a.err != nil {
		return Committed{}, a.err
	}
	stands := tasks.Status(a.reply.text(0))
	switch a.reply.word {
	case "committed":
		if commit.Record != nil {
			s.ended(commit.Record.Job, stands, commit.Result)
		}
		if commit.hasWaysOut() {
			return Committed{Committed: true, Status: stands}, s.conclude(ctx, c.id, commit.Record.Job.Trace)
		}
		if err := a.indexed(); err != nil {
			return Committed{Committed: true, Status: stands}, fmt.Errorf("index job %s: %w", c.id, err)
		}
		var err error
		if commit.member() != nil {
			err = s.reportEnd(ctx, commit.Record, stands, commit.Result)
		}
		return Committed{Committed: true, Status: stands}, err
	case "refused", "stale_run":
		record, err := s.Get(ctx, c.id)
		if err == nil {
			err = s.Reindex(ctx, record)
		}
		return Committed{Status: stands}, err
	case "not_found":
		return Committed{}, errors.Join(refused(c.verb, c.id, a.reply.word), s.unindex(ctx, c.id))
	}
	return Committed{}, refused(c.verb, c.id, a.reply.word)
}

// resultText is a result as the record keeps it: without what stands in other fields, and sealed.
func (s *Store) resultText(verb, id string, run int, status tasks.Status, result tasks.Result, finishedAt time.Time) (string, error) {
	result.ID, result.Run, result.Status = id, run, status
	result.Response, result.Attempts, result.Waiting = nil, nil, nil
	result.CreatedAt, result.StartedAt = millisecondsOf(result.CreatedAt), millisecondsOf(result.StartedAt)
	result.FinishedAt = millisecondsOf(&finishedAt)
	return encodeSealed(s, verb, id, fieldResult, result)
}

// milliseconds rounds up: a record is never kept for less than asked, and never for 0 ms.
func milliseconds(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
