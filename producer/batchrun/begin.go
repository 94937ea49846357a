package batchrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/batchlines"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// The notes of a batch.
const (
	// noteInput is the id of the copy of the input that is worked from, noteEnqueued how many of its lines are enqueued.
	noteInput    = "input"
	noteEnqueued = "enqueued"
)

const (
	// checkEvery is after how many members it is looked whether the batch goes on.
	checkEvery = 256
	// mostAhead is more than EnqueueMany and checkEvery together are ahead of what is noted.
	mostAhead = 4 * checkEvery
	// membersAtOnce is how many members are changed at a time.
	membersAtOnce = 32
	// heldAfter is how long the copy of the input is kept behind the deadline, for a Runner that comes late.
	heldAfter = 7 * 24 * time.Hour
)

func enqueuedOf(batch batches.Batch) int {
	n, _ := strconv.Atoi(batch.Notes[noteEnqueued])
	return n
}

// Take copies the input of a batch that is about to be created, and notes where: what is worked from is the copy, so that
// the file may be deleted, or expire.
func Take(ctx context.Context, store *files.Store, input files.File, batch *batches.Batch) error {
	id := files.NewID()
	batch.Notes = map[string]string{noteInput: id}
	return store.Hold(ctx, input, id, batch.Deadline.Add(heldAfter))
}

// validate looks at all of an input.
func (r *Runner) validate(ctx context.Context, batch batches.Batch) error {
	reader, err := r.config.Files.Open(ctx, files.File{ID: batch.Notes[noteInput]})
	if gcerrors.Code(err) == gcerrors.NotFound {
		return r.fail(ctx, batch, []batches.Problem{{
			Code: "file_not_found", Param: "input_file_id", Message: "The copy of the batch input file " + batch.InputFileID + " is not there any more.",
		}})
	}
	if err != nil {
		return err
	}
	defer reader.Close()
	total, found, err := batchlines.Check(reader, batch.Endpoint)
	if err != nil {
		return fmt.Errorf("read its input: %w", err)
	}
	if len(found) > 0 {
		problems := make([]batches.Problem, len(found))
		for i, problem := range found {
			problems[i] = batches.Problem(problem)
		}
		return r.fail(ctx, batch, problems)
	}
	if err := r.store.Begin(ctx, batch.ID, total); !errors.Is(err, batches.ErrCancelling) {
		if err == nil {
			r.config.Log.Info().Str("batch", batch.ID).Str("tenant", batch.Tenant).Int("requests", total).Msg("batch begins")
		}
		return err
	}
	return nil
}

func (r *Runner) fail(ctx context.Context, batch batches.Batch, problems []batches.Problem) error {
	err := r.store.Fail(ctx, batch.ID, problems)
	if errors.Is(err, batches.ErrEnded) || errors.Is(err, batches.ErrCancelling) {
		return nil
	}
	if err == nil {
		r.config.Log.Info().Str("batch", batch.ID).Str("tenant", batch.Tenant).Str("code", problems[0].Code).Msg("batch has failed its validation")
		err = r.config.Files.LetGo(ctx, batch.Notes[noteInput])
	}
	return err
}

// enqueue enqueues the members that are not yet, from what was noted on.
func (r *Runner) enqueue(ctx context.Context, batch batches.Batch) error {
	if !time.Now().Before(batch.Deadline) {
		return r.expire(ctx, batch)
	}
	reader, err := r.config.Files.Open(ctx, files.File{ID: batch.Notes[noteInput]})
	if err != nil {
		return err
	}
	defer reader.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	e := &enqueuing{Runner: r, batch: batch, lines: batchlines.NewReader(reader, batch.Endpoint), checked: enqueuedOf(batch)}
	for receipt, err := range r.config.Client.EnqueueMany(ctx, e.jobs(ctx, stop)) {
		if err == nil && receipt.Created {
			r.intake.Accepted()
		}
		if err = e.received(ctx, err); err != nil {
			stop(err) // EnqueueMany takes no more, and what it has taken is written
		}
	}
	err = context.Cause(ctx)
	if err == nil {
		err = e.check(ctx, batch.Total)
	}
	if errors.Is(err, errStopped) {
		return nil // the step that follows cancels what is out
	}
	return err
}

// enqueuing is the members of a batch on their way.
type enqueuing struct {
	*Runner
	batch batches.Batch
	lines *batchlines.Reader
	// checked is how far the batch was known to go on, and all before it are enqueued.
	checked int
	// out are those whose receipts have not come, in their order.
	out []tasks.Job
}

// jobs are the members that are not enqueued yet. Those whose requests are refused are written down as failed at once.
func (e *enqueuing) jobs(ctx context.Context, stop context.CancelCauseFunc) iter.Seq[tasks.Job] {
	return func(yield func(tasks.Job) bool) {
		for number := range e.batch.Total {
			line, err := e.lines.Next()
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				stop(fmt.Errorf("its input is not what it was: %w", err))
				return
			}
			if number < e.checked {
				continue
			}
			job, err := openai.JobOf(e.batch.Endpoint, line.Body, e.config.Client.Catalog())
			job = e.member(job, number)
			if err != nil {
				if err := e.refuse(ctx, job, err); err != nil {
					stop(err)
					return
				}
				continue
			}
			e.out = append(e.out, job)
			if !yield(job) {
				return
			}
		}
	}
}

func (e *enqueuing) member(job tasks.Job, number int) tasks.Job {
	job.ID = batches.MemberID(e.batch.ID, number)
	job.Tenant, job.Priority = e.batch.Tenant, tasks.PriorityBulk
	job.Deadline, job.Retention = &e.batch.Deadline, tasks.Duration(e.batch.Retention)
	job.Member = &tasks.Member{Batch: e.batch.ID, Number: number}
	job.Trace = e.batch.Trace
	return job
}

// refuse writes down a member whose request is refused: it has failed, and the others go on.
func (e *enqueuing) refuse(ctx context.Context, job tasks.Job, why error) error {
	refusal := openai.Refusal(why)
	if refusal == nil {
		refusal = &openai.Error{Status: http.StatusBadRequest, Code: "invalid_request", Message: why.Error()}
	}
	job.Request = nil // it may be larger than a record
	err := e.config.Client.RefuseMember(ctx, job.ID, job, tasks.Failure{
		Class: tasks.ClassInvalid, Code: refusal.Code, Message: refusal.Message,
	})
	if errors.Is(err, producer.ErrIDConflict) {
		return nil // it had been enqueued before, by a configuration that took it
	}
	if err == nil {
		e.intake.Refused(refusal.Code)
	}
	return err
}

// received takes note of what came of one member.
func (e *enqueuing) received(ctx context.Context, err error) error {
	job := e.out[0]
	e.out = e.out[1:]
	switch {
	case err == nil, errors.Is(err, producer.ErrIDConflict): // enqueued before, under other defaults
	case errors.Is(err, tasks.ErrInvalidJob):
		if err := e.refuse(ctx, job, err); err != nil {
			return err
		}
	default:
		return err
	}
	if next := job.Member.Number + 1; next >= e.checked+checkEvery {
		return e.check(ctx, next)
	}
	return nil
}

var errStopped = errors.New("the batch is being cancelled")

// check looks whether the batch goes on, and notes how far it is. Where it does not go on nothing is noted, so that the
// step that follows finds those that were enqueued meanwhile.
func (e *enqueuing) check(ctx context.Context, next int) error {
	batch, err := e.store.Get(ctx, e.batch.ID, "")
	if err != nil {
		return err
	}
	if batch.Status != batches.StatusInProgress {
		return errStopped
	}
	if err := e.store.Note(ctx, e.batch.ID, map[string]string{noteEnqueued: strconv.Itoa(next)}); err != nil {
		return err
	}
	e.checked = next
	return nil
}

// expire ends the members that were never enqueued, because their time was over before.
func (r *Runner) expire(ctx context.Context, batch batches.Batch) error {
	err := r.each(ctx, enqueuedOf(batch), batch.Total, func(ctx context.Context, number int) error {
		switch _, err := r.config.Client.Get(ctx, batches.MemberID(batch.ID, number)); {
		case err == nil: // enqueued, but not noted: its own deadline ends it
			return nil
		case !errors.Is(err, producer.ErrNotFound):
			return err
		}
		return r.store.Report(ctx, batch.ID, batches.Report{Number: number, State: batches.Expired})
	})
	if err != nil {
		return err
	}
	return r.store.Note(ctx, batch.ID, map[string]string{noteEnqueued: strconv.Itoa(batch.Total)})
}

// cancel ends the members of a batch that is being cancelled. Those that may have been enqueued while they were counted as
// cancelled come first.
func (r *Runner) cancel(ctx context.Context, batch batches.Batch) error {
	from := enqueuedOf(batch)
	err := r.each(ctx, from, min(from+mostAhead, batch.Total), func(ctx context.Context, number int) error {
		stands, err := r.config.Client.Cancel(ctx, batches.MemberID(batch.ID, number))
		switch {
		case errors.Is(err, producer.ErrNotFound):
			return nil
		case err == nil && !stands.Status.Ended():
			// It runs, and its answer may be on its way: the batch waits for it, also where it had counted it as never enqueued.
			return r.store.Report(ctx, batch.ID, batches.Report{Number: number, State: batches.Open})
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.config.Client.CancelMembers(ctx, batch.ID)
}

func (r *Runner) each(ctx context.Context, from, until int, do func(ctx context.Context, number int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(membersAtOnce)
	for number := from; number < until && ctx.Err() == nil; number++ {
		group.Go(func() error { return do(ctx, number) })
	}
	return group.Wait()
}
