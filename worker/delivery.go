package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/worker/internal/policy"
)

const (
	// waitInPlace is the longest wait that a delivery sits out on its slot: the interval at which asynq looks at due
	// tasks, and two seconds.
	waitInPlace = delayedTaskCheckInterval + 2*time.Second
	// maxWait caps every wait that the gate or a provider names.
	maxWait = 24 * time.Hour
	// maxDeaths is how many deliveries of a job may be lost with their workers before the job is taken for the cause.
	maxDeaths = 5
	// redisAwayWait is how soon a job is delivered again that an outage of Redis kept from its call.
	redisAwayWait = waitInPlace + time.Second
	// What a job waits for beside what the gate and package paused say.
	reasonAttemptOpen = "attempt_open"
	reasonRedisAway   = "redis_away"
	reasonGivenBack   = "given_back"
	// orphanPoll is how soon a delivery that waits for another one's open attempt looks again.
	orphanPoll = 5 * time.Second
)

// delivery is one run of a job's task.
type delivery struct {
	worker *Worker
	// plan is what it works by.
	plan   *plan
	id     string
	jobID  string
	record *jobstore.Record
	job    tasks.Job
	purse
	// asks is how often the gate was asked for leave to call.
	asks int
	// shown is what the job's record says of a wait on the slot.
	shown shown
	// attempts are those of this delivery that have ended without an answer.
	attempts []tasks.Attempt
	// estimates are what calls may use, by model, as far as they were asked for.
	estimates map[string]catalog.Estimate
	// stop ends the delivery's context with a cause of package policy.
	stop context.CancelCauseFunc
	// span is the delivery's; nil until its record was read.
	span trace.Span
}

// returned is the error with which a delivery goes back to asynq: deliver again after In.
type returned struct {
	in    time.Duration
	why   string
	fails bool
}

// Error implements error. Asynq shows the text in its consoles.
func (r *returned) Error() string { return r.why }

// ProcessTask implements asynq.Handler: one delivery, from the task to asynq's acknowledgement.
func (w *Worker) ProcessTask(asynqs context.Context, task *asynq.Task) error {
	if envelope.IsHealthProbe(task) {
		return w.processHealthProbe(task)
	}
	if envelope.IsWebhook(task) {
		return w.processWebhook(task)
	}
	id, run, err := envelope.Decode(task)
	if err != nil && envelope.HoldsJob(task) {
		return w.adopt(asynqs, task)
	}
	if err != nil {
		w.log.Error().Err(err).Str("type", task.Type()).Msg("a task that is none of Forebay's was taken out of the queue")
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	began := time.Now()
	d := &delivery{worker: w, plan: w.plans.use(), id: uuid.NewString(), jobID: id}
	defer w.plans.leave(d.plan)
	ctx, stop := context.WithCancelCause(w.alive)
	defer stop(nil)
	d.stop = stop
	w.running.add(d)
	defer w.running.remove(d)
	d.record, err = d.start(ctx, id, run)
	switch {
	case errors.Is(err, jobstore.ErrNotFound):
		w.log.Warn().Str("job", id).Msg("a task without a job's record was taken out of the queue")
		return fmt.Errorf("job %s has no record: %w", id, asynq.SkipRetry)
	case errors.Is(err, jobstore.ErrStaleRun):
		return nil
	case errors.Is(err, jobstore.ErrUnreadable):
		return d.giveBackUnread(err)
	case err != nil:
		return &returned{in: orphanPoll, why: err.Error(), fails: true}
	case d.record.Status.Ended():
		return d.handOver()
	}
	d.job = d.record.Job
	d.observeLatency()
	ctx = d.beginSpan(ctx, task, began)
	defer d.span.End()
	return d.close(d.safely(func() conclusion { return d.work(ctx) }))
}

// observeLatency measures the first delivery of a job: later ones wait by their own fault, or for what waits are counted.
func (d *delivery) observeLatency() {
	if r := d.record; r.Deliveries == 1 && r.Run == 1 && !r.CreatedAt.IsZero() {
		due := r.CreatedAt
		if r.RunAt.After(due) {
			due = r.RunAt
		}
		d.worker.series.begun(string(r.Priority), due)
	}
}

// handOver tells once more what a job's end sets off: whoever ended it may have died before.
func (d *delivery) handOver() error {
	err := d.worker.persist("tell the batch of the job's end", d, func(ctx context.Context) error {
		return d.worker.store.Report(ctx, d.record)
	})
	if err != nil {
		return &returned{in: repeatUnknown, why: err.Error(), fails: true}
	}
	return nil
}

// start takes the job and reads its record, in one round trip.
func (d *delivery) start(ctx context.Context, id string, run int) (*jobstore.Record, error) {
	return d.worker.store.Start(ctx, id, jobstore.Delivery{ID: d.id, Worker: d.worker.id, Run: run})
}

// work brings the job to a conclusion, or as near to it as this delivery can.
//
// Its context is that of the delivery's calls: it ends by the job's deadline, its user's cancel or the second signal,
// never with asynq's lease.
func (d *delivery) work(ctx context.Context) conclusion {
	if d.job.Deadline != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, *d.job.Deadline, policy.ErrDeadline)
		defer cancel()
	}
	switch {
	case d.record.Cancel:
		return conclusion{ended: tasks.StatusCancelled, failure: cancelled()}
	case ctx.Err() != nil:
		return *d.cutOff(ctx)
	case d.record.Deaths >= maxDeaths:
		return conclusion{ended: tasks.StatusFailed, failure: &tasks.Failure{
			Class: tasks.ClassInternal, Code: "workers_died",
			Message: fmt.Sprintf("%d deliveries of the job ended with the death of their worker", d.record.Deaths),
			Hint:    "look for the cause in the workers' logs (out of memory?) before enqueueing the job again",
		}}
	}
	if wait, err := d.closeOrphans(ctx); err != nil {
		return *d.interrupted(ctx, err)
	} else if wait != nil {
		return *wait
	}
	for waits := 0; ; waits++ {
		end := d.walkRoutes(ctx)
		if end.ended != "" || end.spends || !end.inPlace(waits) || d.worker.draining() {
			return end
		}
		if !d.sitOut(ctx, end) {
			if ctx.Err() != nil {
				return *d.cutOff(ctx)
			}
			return *d.giveBack()
		}
	}
}

// closeOrphans looks at the calls that other deliveries of the job left open. One of a living worker may still be
// answered: the job waits for it. One of a dead worker is closed, and counted as maybe billed.
func (d *delivery) closeOrphans(ctx context.Context) (*conclusion, error) {
	open := d.record.Open(d.id)
	until, err := d.worker.store.CloseOrphans(ctx, d.record, d.id)
	d.reportOrphans(open)
	if err != nil || until.IsZero() {
		return nil, err
	}
	now := time.Now()
	return &conclusion{wait: min(until.Sub(now), orphanPoll), waiting: tasks.Waiting{
		Reason: reasonAttemptOpen, Since: now.UTC(), Until: until,
	}}, nil
}

// reportOrphans tells the gate of calls that nobody else will report, of those that were open: their permits, and the
// lease of a probe, are free before they expire.
func (d *delivery) reportOrphans(open []tasks.Attempt) {
	for _, attempt := range d.record.Attempts {
		wasOpen := slices.ContainsFunc(open, func(o tasks.Attempt) bool { return o.Seq == attempt.Seq })
		if !wasOpen || attempt.Code != jobstore.CodeWorkerGone || attempt.Ask == 0 {
			continue
		}
		call := gate.Admission{
			Route: gate.Route{Account: attempt.Account, Endpoint: attempt.Endpoint, Model: attempt.Model},
			Token: numbered(attempt.Delivery, attempt.Ask),
		}
		if err := d.report(call.Outcome(gate.Ignore)); err != nil {
			d.worker.log.Debug().Err(err).EmbedObject(d).Msg("a permit expires by itself")
		}
		d.noteOrphan(attempt)
	}
}

// cutOff concludes a delivery whose context ended outside of a call.
func (d *delivery) cutOff(ctx context.Context) *conclusion {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, policy.ErrCancelled):
		return &conclusion{ended: tasks.StatusCancelled, failure: cancelled()}
	case errors.Is(cause, policy.ErrDeadline):
		return &conclusion{ended: tasks.StatusExpired, failure: expired(d.job)}
	}
	return d.giveBack()
}

// interrupted concludes a delivery that one of our own steps stopped.
func (d *delivery) interrupted(ctx context.Context, err error) *conclusion {
	switch {
	case errors.Is(err, errNotBegun):
		if held := d.heldBack(); held != nil && ctx.Err() == nil {
			return held
		}
		return d.cutOff(ctx)
	case errors.Is(err, jobstore.ErrCancelled):
		return &conclusion{ended: tasks.StatusCancelled, failure: cancelled()}
	case errors.Is(err, jobstore.ErrEnded), errors.Is(err, jobstore.ErrStaleRun), errors.Is(err, jobstore.ErrNotFound),
		errors.Is(err, jobstore.ErrSuperseded):
		return &conclusion{superseded: true}
	case ctx.Err() != nil:
		return d.cutOff(ctx)
	case outage(err):
		// No call was made: that Redis is away costs the job nothing, not even one that may not be repeated.
		d.worker.log.Warn().Err(err).EmbedObject(d).Msg("Redis is away; the job goes back")
		now := time.Now().UTC()
		return &conclusion{wait: redisAwayWait, waiting: tasks.Waiting{Reason: reasonRedisAway, Since: now, Until: now.Add(redisAwayWait)}}
	}
	d.worker.log.Error().Err(err).EmbedObject(d).Msg("delivery failed")
	end := d.failedDelivery(&tasks.Failure{
		Class: tasks.ClassInternal, Code: "redis_failed",
		Message: "Redis refused the worker: " + err.Error(), Hint: "check Redis; the job is repeated by itself",
	})
	return &end
}

// giveBack puts the job back into the queue for another worker, free of charge.
func (d *delivery) giveBack() *conclusion {
	now := time.Now().UTC()
	return &conclusion{waiting: tasks.Waiting{Reason: reasonGivenBack, Since: now, Until: now}}
}

// failedDelivery repeats the job after its backoff, or ends it when its retries are spent.
func (d *delivery) failedDelivery(failure *tasks.Failure) conclusion {
	limit := 0
	if d.job.MaxRetries != nil {
		limit = *d.job.MaxRetries
	}
	if d.record.Failures >= limit {
		return conclusion{ended: tasks.StatusFailed, failure: failure}
	}
	wait := d.plan.backoff(d.record.Failures)
	now := time.Now().UTC()
	return conclusion{wait: wait, spends: true, failure: failure, waiting: tasks.Waiting{
		Reason: "backoff", Since: now, Until: now.Add(wait),
	}}
}

func cancelled() *tasks.Failure {
	return &tasks.Failure{Class: tasks.ClassCancelled, Code: "cancelled", Message: "the job was cancelled by its user"}
}

func expired(job tasks.Job) *tasks.Failure {
	return &tasks.Failure{
		Class: tasks.ClassExpired, Code: "deadline_passed",
		Message: "the job's deadline, " + job.Deadline.UTC().Format(time.RFC3339) + ", passed before it was done",
		Hint:    "enqueue it again with a later deadline",
	}
}

// safely contains a panic of a delivery: it is our own fault, and costs the job one retry.
func (d *delivery) safely(work func() conclusion) (end conclusion) {
	defer func() {
		if cause := recover(); cause != nil {
			d.worker.logPanic(d, cause)
			end = d.failedDelivery(&tasks.Failure{
				Class: tasks.ClassInternal, Code: "panic", Message: "the worker met a fault of its own",
				Hint: "see the worker's log, which holds the stack",
			})
		}
	}()
	return work()
}
