package jobstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
)

// Delivery is one run of a job's task.
type Delivery struct {
	// ID identifies the delivery among all of the job's. Never used twice.
	ID string
	// Worker identifies the worker process.
	Worker string
	// Run is the run that the task was made for. 0 takes the job in whatever run it is.
	Run int
}

// Start takes the job for a delivery and reads its record, both in one round trip, which it shares with concurrent
// callers where it can. A job that has ended is returned as it stands: there is nothing to do but to hand its result
// over again. Record.Cancel and Record.Open say what to look at before a call. It answers ErrNotFound, ErrStaleRun
// for a task of an older run, which is to be dropped, and ErrUnreadable as Get does, with the job taken.
func (s *Store) Start(ctx context.Context, id string, delivery Delivery) (*Record, error) {
	c := call{
		verb: "start", id: id, script: startScript, keys: []string{s.keys.Job(id)},
		args: []any{delivery.Run, delivery.ID, delivery.Worker, formatTime(time.Now())},
	}
	started := s.send(ctx, batched{call: c, read: true})()
	if started.err != nil {
		return nil, started.err
	}
	if started.reply.word != "ok" {
		return nil, refused(c.verb, id, started.reply.word)
	}
	fields, err := started.fields.Result()
	if err != nil {
		return nil, fmt.Errorf("start job %s: read it: %w", id, err)
	}
	// What others do to the record between the script and the read is seen here, or refused later.
	switch {
	case fields["status"] == "":
		return nil, refused(c.verb, id, "not_found")
	case fields["run"] != started.reply.text(0):
		return nil, refused(c.verb, id, "stale_run")
	}
	return s.readRecord(id, fields)
}

// SitOut says in the record what a delivery waits for before its next call, while it holds the job. The job stays
// running, and Begin takes the word away. ErrCancelled, ErrEnded, ErrSuperseded, ErrStaleRun and ErrNotFound say that the
// wait is in vain.
func (s *Store) SitOut(ctx context.Context, id string, run int, delivery string, waiting tasks.Waiting) error {
	const verb = "say what it waits for of"
	text, err := encodeWaiting(verb, id, waiting)
	if err != nil {
		return err
	}
	c := call{
		verb: verb, id: id, script: sitOutScript, keys: []string{s.keys.Job(id)}, args: []any{run, delivery, text},
	}
	told := s.send(ctx, batched{call: c})()
	if told.err != nil {
		return told.err
	}
	_, err = readOK(c, told.reply)
	return err
}

// Begin writes the intent of a call into the ledger, before the call is sent, and returns its number.
// attempt.Delivery must hold the job. No call may be sent on an error: ErrCancelled, ErrEnded, ErrSuperseded,
// ErrStaleRun and ErrNotFound say why; on any other error the intent may have been written.
func (s *Store) Begin(ctx context.Context, id string, run int, attempt tasks.Attempt) (int, error) {
	attempt.Seq, attempt.Run, attempt.Ended = 0, run, false
	text, err := encodeAttempt("begin an attempt of", id, attempt)
	if err != nil {
		return 0, err
	}
	c := call{
		verb: "begin an attempt of", id: id, script: beginScript, keys: []string{s.keys.Job(id)},
		// The number is the script's to give; it stands first in an attempt's JSON.
		args: []any{run, attempt.Delivery, strings.TrimPrefix(text, `{"seq":0,`)},
	}
	begun := s.send(ctx, batched{call: c})()
	if begun.err != nil {
		return 0, begun.err
	}
	if begun.reply.word != "ok" {
		return 0, refused(c.verb, id, begun.reply.word)
	}
	seq, err := strconv.Atoi(begun.reply.text(0))
	if err != nil {
		return 0, fmt.Errorf("begin an attempt of job %s: the script answered the number %q", id, begun.reply.text(0))
	}
	return seq, nil
}

// End replaces the intent of a call by its end. It does so whatever has become of the job: what was spent is known.
func (s *Store) End(ctx context.Context, id string, attempt tasks.Attempt) error {
	c, err := s.endCall(id, attempt)
	if err != nil {
		return err
	}
	r, err := s.run(ctx, c)
	if err != nil {
		return err
	}
	_, err = readOK(c, r)
	return err
}

// EndOn is End in the caller's pipeline.
func (s *Store) EndOn(ctx context.Context, pipe redis.Cmdable, id string, attempt tasks.Attempt) (*Pending[struct{}], error) {
	c, err := s.endCall(id, attempt)
	if err != nil {
		return nil, err
	}
	return pend(ctx, s, pipe, c, func(_ context.Context, r reply) (struct{}, error) { return readOK(c, r) }), nil
}

func (s *Store) endCall(id string, attempt tasks.Attempt) (call, error) {
	seq, text, err := endOf("end an attempt of", id, &attempt)
	if err != nil {
		return call{}, err
	}
	return call{
		verb: "end an attempt of", id: id, script: endScript, keys: []string{s.keys.Job(id)}, args: []any{seq, text},
	}, nil
}

func readOK(c call, r reply) (struct{}, error) {
	if r.word != "ok" {
		return struct{}{}, refused(c.verb, c.id, r.word)
	}
	return struct{}{}, nil
}

// GiveBack says how a delivery leaves its job to a later one.
type GiveBack struct {
	// Status is StatusQueued for a job that waits, StatusRetrying after a failure.
	Status tasks.Status
	// Waiting says what the job waits for, if for anything.
	Waiting *tasks.Waiting
	// LastError is the delivery's failure. Nil leaves the one that stands.
	LastError *tasks.Failure
	// SpendRetry counts the delivery as failed.
	SpendRetry bool
	// Attempt is the end of the call that the delivery ended with, if it is not written yet.
	Attempt *tasks.Attempt
}

// GiveBack leaves the job to a later delivery, and returns how many failures the run has now. The attempt's end is
// written in any case; the rest only while the delivery holds the job. ErrCancelled asks the caller to commit the
// job as cancelled instead; ErrEnded, ErrSuperseded, ErrStaleRun and ErrNotFound ask for nothing.
func (s *Store) GiveBack(ctx context.Context, id string, run int, delivery string, back GiveBack) (int, error) {
	c, err := s.giveBackCall(id, run, delivery, back)
	if err != nil {
		return 0, err
	}
	r, err := s.run(ctx, c)
	if err != nil {
		return 0, err
	}
	return readFailures(c, r)
}

func (s *Store) giveBackCall(id string, run int, delivery string, back GiveBack) (call, error) {
	const verb = "give back"
	if back.Status != tasks.StatusQueued && back.Status != tasks.StatusRetrying {
		return call{}, fmt.Errorf("give back job %s: the status %q is neither queued nor retrying", id, back.Status)
	}
	var waiting, lastError string
	var err error
	if back.Waiting != nil {
		if waiting, err = encodeWaiting(verb, id, *back.Waiting); err != nil {
			return call{}, err
		}
	}
	if back.LastError != nil {
		if lastError, err = encodeSealed(s, verb, id, fieldLastError, back.LastError); err != nil {
			return call{}, err
		}
	}
	seq, end, err := endOf(verb, id, back.Attempt)
	if err != nil {
		return call{}, err
	}
	spend := 0
	if back.SpendRetry {
		spend = 1
	}
	return call{
		verb: verb, id: id, script: giveBackScript, keys: []string{s.keys.Job(id)},
		args: []any{run, delivery, string(back.Status), waiting, lastError, spend, seq, end},
	}, nil
}

func readFailures(c call, r reply) (int, error) {
	if r.word != "ok" {
		return 0, refused(c.verb, c.id, r.word)
	}
	failures, err := strconv.Atoi(r.text(0))
	if err != nil {
		return 0, fmt.Errorf("give back job %s: the script answered %q failures", c.id, r.text(0))
	}
	return failures, nil
}

// endOf is an attempt's number and its end as the ledger keeps it; 0 and nothing for none.
func endOf(verb, id string, attempt *tasks.Attempt) (int, string, error) {
	if attempt == nil {
		return 0, "", nil
	}
	if attempt.Seq < 1 {
		return 0, "", fmt.Errorf("%s job %s: the attempt has no number; begin it first", verb, id)
	}
	ended := *attempt
	ended.Ended = true
	text, err := encodeAttempt(verb, id, ended)
	return ended.Seq, text, err
}

func encodeWaiting(verb, id string, waiting tasks.Waiting) (string, error) {
	waiting.Since, waiting.Until = toMilliseconds(waiting.Since), toMilliseconds(waiting.Until)
	return encode(verb, id, waiting)
}

func encodeAttempt(verb, id string, attempt tasks.Attempt) (string, error) {
	attempt.StartedAt, attempt.CallDeadline = toMilliseconds(attempt.StartedAt), toMilliseconds(attempt.CallDeadline)
	return encode(verb, id, attempt)
}
