package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// close writes the delivery's conclusion and says to asynq what becomes of the task.
func (d *delivery) close(end conclusion) error {
	switch {
	case end.superseded:
		return nil
	case end.ended != "":
		return d.commit(end)
	}
	return d.handBack(end)
}

// commit ends the job with its result. What was paid for is kept: while Redis is away the commit is repeated. All
// that follows a commit may be done twice.
func (d *delivery) commit(end conclusion) error {
	result := d.result(end)
	span := d.beginCommit(end, result)
	defer span.End()
	commit := jobstore.Commit{
		ID: d.job.ID, Run: d.record.Run, Delivery: d.id, Status: end.ended, Result: result,
		Retention: time.Duration(d.job.Retention), Record: d.record,
	}
	commit.Response = end.said
	if end.answer != nil {
		commit.Response, commit.Attempt = end.answer.body, &end.answer.ledger
	}
	var committed jobstore.Committed
	err := d.worker.persist("commit the job's result", d, func(ctx context.Context) (err error) {
		committed, err = d.send(ctx, commit, end.answer)
		return err
	})
	switch {
	case errors.Is(err, jobstore.ErrNotFound):
		return nil // the record was discarded meanwhile
	case err != nil:
		tracing.Fail(span, string(tasks.ClassInternal))
		return &returned{in: repeatUnknown, why: err.Error(), fails: true}
	case !committed.Committed:
		d.worker.log.Info().EmbedObject(d).Str("status", string(committed.Status)).
			Msg("the job had ended before; its result stands")
		return nil
	}
	d.worker.logEnd(d, end, result)
	if end.ended == tasks.StatusFailed {
		return fmt.Errorf("%w: %w", end.failure, asynq.SkipRetry)
	}
	return nil
}

// send sends the commit and, if an answer came, the reports to the budget and the gate behind it, before any is awaited.
// The reports go together with those of other deliveries.
func (d *delivery) send(ctx context.Context, commit jobstore.Commit, answer *made) (jobstore.Committed, error) {
	wait, err := d.worker.store.SendCommit(ctx, commit)
	if err != nil {
		return jobstore.Committed{}, err
	}
	var unsettled error
	unheld := func() error { return nil }
	if answer != nil {
		unheld = d.sendSettlement(answer)
		var change gate.Transition
		if change, unsettled = d.plan.gate.Settle(ctx, answer.report); unsettled == nil {
			d.followTransition(answer.report, change)
		}
	}
	committed, err := wait()
	return committed, errors.Join(err, unsettled, unheld())
}

func (d *delivery) readSettled(ctx context.Context, settled *gate.PendingSettle, report gate.Outcome) error {
	change, err := settled.Result(ctx)
	if err == nil {
		d.followTransition(report, change)
	}
	return err
}

// result is what the job's user will read.
func (d *delivery) result(end conclusion) tasks.Result {
	attempts := d.attempts
	if end.answer != nil {
		attempts = append(attempts, end.answer.ledger)
	}
	result := d.record.Outcome(end.ended, time.Now(), attempts...)
	result.Error = end.failure
	if answer := end.answer; answer != nil {
		result.Model, result.Tier = answer.route.Model, d.plan.catalog.TierOf(answer.route.Model)
		result.Endpoint, result.Region = answer.route.Endpoint, answer.endpoint.Region
		result.Text, result.Usage = answer.outcome.Text, answer.outcome.Usage
	}
	return result
}

// handBack leaves the job to a later delivery, which is never later than the job's deadline.
func (d *delivery) handBack(end conclusion) error {
	if in := d.returnIn(d.worker.writable, end); in != end.wait {
		end.wait, end.waiting.Until = in, time.Now().Add(in).UTC()
	}
	end.wait = min(end.wait, maxWait)
	if deadline := d.job.Deadline; deadline != nil {
		end.wait = max(0, min(end.wait, time.Until(*deadline)))
		if end.waiting.Until.After(*deadline) {
			end.waiting.Until = deadline.UTC()
		}
	}
	back := jobstore.GiveBack{Status: tasks.StatusQueued, Waiting: &end.waiting, SpendRetry: end.spends, LastError: end.failure}
	if end.spends {
		back.Status = tasks.StatusRetrying
	}
	err := d.worker.persist("give the job back", d, func(ctx context.Context) error {
		_, err := d.worker.store.GiveBack(ctx, d.job.ID, d.record.Run, d.id, back)
		return err
	})
	switch {
	case errors.Is(err, jobstore.ErrCancelled):
		return d.commit(conclusion{ended: tasks.StatusCancelled, failure: cancelled()})
	case errors.Is(err, jobstore.ErrEnded), errors.Is(err, jobstore.ErrStaleRun), errors.Is(err, jobstore.ErrNotFound),
		errors.Is(err, jobstore.ErrSuperseded):
		return nil
	}
	d.noteBack(end)
	d.worker.logBack(d, end)
	d.countBack(end)
	why := "waits: " + end.waiting.Reason
	if end.failure != nil {
		why = end.failure.Error()
	}
	return &returned{in: end.wait, why: why, fails: end.spends}
}

// logEnd tells of a job's end; never of what was asked or answered.
func (w *Worker) logEnd(d *delivery, end conclusion, result tasks.Result) {
	event := w.log.Info()
	if end.ended == tasks.StatusFailed {
		event = w.log.Error().Err(end.failure)
	}
	event.EmbedObject(d).Str("status", string(end.ended)).Str("model", result.Model).Str("endpoint", result.Endpoint).
		Float64("cost_usd", result.CostUSD).Msg("job ended")
}

func (w *Worker) logBack(d *delivery, end conclusion) {
	event := w.log.Info()
	switch {
	case end.failure != nil:
		event = w.log.Warn().Err(end.failure)
	case end.waiting.Reason == reasonPaused:
		event = w.log.Debug() // somebody wanted it so, and it comes again and again
	}
	event.EmbedObject(d).Str("reason", end.waiting.Reason).Dur("wait", end.wait).Msg("job goes back into the queue")
}
