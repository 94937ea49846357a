package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/failpoint"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/tracing"
	"github.com/forebay-queue/forebay/tasks/webhooks"
	"github.com/forebay-queue/forebay/worker/internal/hooks"
)

const (
	// permitMargin is what the permit of an attempt lasts beyond its timeout.
	permitMargin = 5 * time.Second
	// webhookThreshold is how many failures in a row open the breaker of a target, for webhookOpen at first, doubling up to
	// webhookOpenMost.
	webhookThreshold = 5
	webhookOpen      = 30 * time.Second
	webhookOpenMost  = 5 * time.Minute
	// webhookJitter is the share of its wait by which an attempt may be later, so that those that failed together do not
	// come back together.
	webhookJitter = 0.1
	// webhookGrace is for how much longer than its schedule a webhook may be on its way: the time that it waited for others.
	webhookGrace = time.Hour
	// askAgain is how soon a delivery that waits in place asks again, at the earliest.
	askAgain = 50 * time.Millisecond
	// unsignedWait is how soon a webhook is looked at again that this worker has no secret for.
	unsignedWait = time.Minute
)

// hookDelivery is one delivery of a webhook's task: an attempt, or a wait.
type hookDelivery struct {
	worker *Worker
	plan   *plan
	record *webhooks.Record
	limits webhooks.Limits
	// admission is the permit that the delivery holds.
	admission webhooks.Admission
	// span is that of its attempt; nil until one is made.
	span trace.Span
}

// webhookLimits are what attempts are held to.
func (p *plan) webhookLimits() webhooks.Limits {
	config := p.catalog.Webhooks
	return webhooks.Limits{
		PerTarget: config.PerTarget, PerTenant: config.PerTenant, Lease: config.Timeout + permitMargin,
		Threshold: webhookThreshold, OpenFor: webhookOpen, OpenMost: webhookOpenMost,
	}
}

// processWebhook makes one delivery of a webhook, from its task to asynq's acknowledgement.
func (w *Worker) processWebhook(task *asynq.Task) (err error) {
	id, cycle, err := envelope.DecodeWebhook(task)
	if err != nil {
		w.log.Error().Err(err).Str("type", task.Type()).Msg("a task that is none of Forebay's was taken out of the queue")
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	ctx, stop := context.WithCancelCause(w.alive)
	defer stop(nil)
	running := &delivery{worker: w, jobID: id, stop: stop} // which Shutdown waits for
	w.running.add(running)
	defer w.running.remove(running)
	defer func() {
		if cause := recover(); cause != nil {
			w.logPanic(tracing.Line{Webhook: id}, cause)
			err = &returned{in: repeatUnknown, why: "the worker met a fault of its own", fails: true}
		}
	}()
	d := &hookDelivery{worker: w, plan: w.plans.use()}
	defer w.plans.leave(d.plan)
	d.limits = d.plan.webhookLimits()
	d.record, err = w.store.Webhooks().Get(ctx, id, "")
	unread := errors.Is(err, seal.ErrUnreadable)
	switch {
	case errors.Is(err, webhooks.ErrNotFound):
		w.log.Warn().EmbedObject(tracing.Line{Webhook: id}).Msg("a task without a webhook's record was taken out of the queue")
		return fmt.Errorf("webhook %s has no record: %w", id, asynq.SkipRetry)
	case err != nil && !unread:
		return d.failed(err)
	case cycle != 0 && cycle != d.record.Cycle:
		return nil // it was begun anew, and has another task
	case d.record.State.Ended():
		return d.handOver(ctx)
	case unread:
		return d.unread(ctx, err)
	}
	return d.work(ctx)
}

// unread leaves a webhook to a later delivery whose record, or whose job's, this worker has not the key of: another one may.
func (d *hookDelivery) unread(ctx context.Context, cause error) error {
	d.worker.log.Error().Err(cause).EmbedObject(d).Dur("wait", unreadableWait).
		Msg("a webhook cannot be opened; it goes back until its key is there")
	return d.wait(ctx, reasonUnreadable, unreadableWait)
}

// work brings the webhook one step further.
func (d *hookDelivery) work(ctx context.Context) error {
	r, schedule := d.record, d.plan.catalog.Webhooks.Schedule
	if out := time.Until(r.OpenUntil); out > 0 {
		return d.wait(ctx, reasonAttemptOpen, out) // of another delivery, which may be alive
	}
	if state := d.worker.paused.Load(); state != nil && state.Webhooks(r.Shard) {
		return d.wait(ctx, reasonPaused, pausedWait)
	}
	switch late := time.Since(r.Since) > patience(schedule); {
	case r.Tries > len(schedule):
		return d.die(ctx, webhooks.ReasonExhausted) // nobody knows what came of the last one
	case late:
		return d.die(ctx, webhooks.ReasonExpired)
	case d.plan.catalog.WebhookGuard().Check(r.To.URL) != nil:
		return d.die(ctx, webhooks.ReasonRefused)
	}
	keys, err := d.plan.catalog.WebhookKeys(r.Tenant, r.To.Secret)
	if err != nil {
		d.worker.log.Error().Err(err).EmbedObject(d).Msg("a webhook cannot be signed; it waits for its secret")
		return d.wait(ctx, "secret_missing", unsignedWait)
	}
	return d.admit(ctx, keys)
}

// admit asks for leave to make the attempt, and makes it. Where it lacks no more than a permit it waits in place, for one
// of the next that are free: those that come back from the queue do so all at once, with each second.
func (d *hookDelivery) admit(ctx context.Context, keys []string) error {
	w, r := d.worker, d.record
	target := r.Tenant + " " + webhooks.Host(r.To.URL)
	place := w.room.Enter(target)
	leave := sync.OnceFunc(func() {
		if place > 0 {
			w.room.Leave(target)
		}
	})
	defer leave()
	for waited := time.Duration(0); ; {
		if !w.posts.enter(ctx, w.stopping) {
			return &returned{why: "the worker shuts down"} // another one makes the attempt
		}
		var err error
		goesBack := place == 0 || waited >= waitInPlace
		d.admission, err = w.store.Webhooks().Admit(ctx, r, uuid.NewString(), goesBack, d.limits)
		if err == nil && d.admission.Granted {
			defer w.posts.leave()
			leave()
			return d.attempt(ctx, keys)
		}
		w.posts.leave()
		switch {
		case err != nil:
			return d.failed(err)
		case d.admission.Off:
			return d.die(ctx, webhooks.ReasonTargetOff)
		case goesBack:
			return d.wait(ctx, d.admission.Reason, d.admission.Wait)
		case !d.admission.Busy:
			waited = waitInPlace // it takes a ticket
			continue
		}
		wait := min(max(time.Duration(place)*d.admission.Slot, askAgain), waitInPlace-waited)
		waited += wait
		if !w.pauseUnlessDraining(ctx, wait) {
			waited = waitInPlace
		}
	}
}

// posts are the attempts that are out: one place for each.
type posts chan struct{}

// enter waits for a place, until the context ends or the worker stops.
func (p posts) enter(ctx context.Context, stopping <-chan struct{}) bool {
	select {
	case <-stopping:
		return false
	default:
	}
	select {
	case p <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-stopping:
	}
	return false
}

func (p posts) leave() { <-p }

// attempt makes the attempt that was admitted.
func (d *hookDelivery) attempt(ctx context.Context, keys []string) error {
	store, r := d.worker.store.Webhooks(), d.record
	body, err := d.body(ctx)
	switch {
	case errors.Is(err, errNoContent):
		d.release()
		return d.die(ctx, webhooks.ReasonNoContent)
	case errors.Is(err, seal.ErrUnreadable):
		d.release()
		return d.unread(ctx, err)
	case err != nil:
		d.release()
		return d.failed(err)
	}
	wait, err := store.Begin(ctx, r, d.limits)
	switch {
	case errors.Is(err, webhooks.ErrOpen):
		d.release()
		return d.wait(ctx, reasonAttemptOpen, wait)
	case errors.Is(err, webhooks.ErrEnded), errors.Is(err, webhooks.ErrStale), errors.Is(err, webhooks.ErrNotFound):
		d.release()
		return nil
	case err != nil:
		d.release()
		return d.failed(err)
	}
	if r.Tries == 1 {
		d.worker.series.begun(envelope.WebhookQueueName, r.Since)
	}
	failpoint.At("webhook.begun")
	began := time.Now()
	span := d.beginSpan(ctx)
	defer span.End()
	answer, err := d.plan.sender.Send(ctx, hooks.Message{
		ID: r.ID, URL: r.To.URL, Headers: r.To.Headers, Body: body, Keys: keys, Trace: tracing.OfSpan(span),
	})
	if err != nil {
		tracing.Fail(span, string(tasks.ClassInternal))
		return d.failed(err) // the attempt stays open, and counts
	}
	failpoint.At("webhook.sent")
	class := hooks.Classify(ctx, answer)
	endWebhookSpan(span, class, answer)
	attempt := webhooks.Attempt{
		Number: r.Attempts, At: began, Status: answer.Status, Latency: answer.Latency, Answer: answer.Text,
	}
	if class != hooks.Delivered {
		attempt.Error = string(class)
	}
	d.worker.series.webhookAttempted(class, attempt)
	backoff, last := d.backoff()
	return d.settle(attempt, hooks.Next(class, backoff, last, hooks.RetryAfter(answer, time.Now())))
}

// settle writes down what came of an attempt: while Redis is away it is repeated, for whatever was sent is known here only.
func (d *hookDelivery) settle(attempt webhooks.Attempt, next webhooks.Next) error {
	w, r := d.worker, d.record
	if next.State == webhooks.Pending && next.Wait > 0 {
		next.Wait = wholeSecond(next.Wait)
	}
	var state webhooks.State
	err := w.persist("settle the webhook", d, func(ctx context.Context) (err error) {
		state, err = w.store.Webhooks().Settle(ctx, r, d.admission, attempt, next, d.limits)
		return err
	})
	if errors.Is(err, webhooks.ErrNotFound) {
		return nil
	}
	if err != nil {
		return d.failed(err)
	}
	failpoint.At("webhook.settled")
	event := w.log.Debug()
	if attempt.Error != "" {
		event = w.log.Info()
	}
	event.EmbedObject(d).Str("event", r.Event).Str("host", webhooks.Host(r.To.URL)).Int("attempt", attempt.Number).
		Int("status", attempt.Status).Str("error", attempt.Error).Dur("latency", attempt.Latency).Str("state", string(state)).
		Msg("webhook attempted")
	if state.Ended() {
		return d.handOver(w.writable)
	}
	return &returned{in: next.Wait, why: "waits: " + next.Reason}
}

// handOver tells, of a webhook that has ended, what that sets off: the record of a job whose webhook was delivered need
// not be kept for it any more.
func (d *hookDelivery) handOver(ctx context.Context) error {
	w, r := d.worker, d.record
	err := w.persist("list the webhook", d, func(context.Context) error { return w.store.Webhooks().Index(ctx, r) })
	if err == nil && r.Job != "" && r.State != webhooks.Dead {
		err = w.persist("tell the job of its webhook", d, func(context.Context) error {
			return w.store.WebhookTold(ctx, r.Job, r.Run, r.Keep)
		})
	}
	if err != nil && !errors.Is(err, jobstore.ErrNotFound) {
		return d.failed(err)
	}
	return nil
}

// die ends the webhook without a further attempt.
func (d *hookDelivery) die(ctx context.Context, reason string) error {
	err := d.worker.store.Webhooks().Die(ctx, d.record, reason)
	switch {
	case errors.Is(err, webhooks.ErrEnded), errors.Is(err, webhooks.ErrStale), errors.Is(err, webhooks.ErrNotFound):
		return nil
	case err != nil:
		return d.failed(err)
	}
	d.worker.log.Warn().EmbedObject(d).Str("event", d.record.Event).Str("host", webhooks.Host(d.record.To.URL)).
		Str("reason", reason).Msg("webhook given up")
	return nil
}

// wait gives the webhook back for a time. It is no attempt.
func (d *hookDelivery) wait(ctx context.Context, reason string, wait time.Duration) error {
	wait = wholeSecond(min(wait, maxWait))
	if err := d.worker.store.Webhooks().Postpone(ctx, d.record, reason, wait); err != nil {
		return d.failed(err)
	}
	return &returned{in: wait, why: "waits: " + reason}
}

// failed gives the webhook back after a fault of our own, such as an outage of Redis.
func (d *hookDelivery) failed(err error) error {
	w := d.worker
	if w.alive.Err() == nil {
		event := w.log.Error()
		if outage(err) {
			event = w.log.Warn()
		}
		event.Err(err).EmbedObject(d).Msg("the delivery of a webhook failed; it is repeated")
	}
	return &returned{in: repeatUnknown, why: err.Error(), fails: true}
}

// release gives back the permit of an attempt that was not begun; otherwise it expires.
func (d *hookDelivery) release() {
	ctx, cancel := context.WithTimeout(d.worker.writable, reportTimeout)
	defer cancel()
	if err := d.worker.store.Webhooks().Release(ctx, d.record, d.admission, d.limits); err != nil {
		d.worker.log.Debug().Err(err).EmbedObject(d).Msg("a permit expires by itself")
	}
}

// errNoContent says that what a webhook is about is known no longer.
var errNoContent = errors.New("what the webhook is about is known no longer")

// body renders the webhook, from the record of what it is about.
func (d *hookDelivery) body(ctx context.Context) ([]byte, error) {
	w, r := d.worker, d.record
	switch {
	case r.Batch != "":
		return hooks.BatchBody(r)
	case r.Job == "":
		return hooks.TestBody(r)
	}
	record, err := w.store.Get(ctx, r.Job)
	if errors.Is(err, jobstore.ErrNotFound) {
		return nil, errNoContent
	}
	if err != nil {
		return nil, err
	}
	result := record.Result()
	if record.Run != r.Run || !record.Status.Ended() {
		// It was opened again since: what the webhook tells of is an earlier result.
		at := slices.IndexFunc(record.Previous, func(earlier tasks.Result) bool { return earlier.Run == r.Run })
		if at < 0 {
			return nil, errNoContent
		}
		result = record.Previous[at]
	}
	return hooks.JobBody(r, result, d.plan.catalog.Webhooks.InlineBytes, func() (string, error) {
		return d.plan.catalog.ResultLink(r.Tenant, r.To.Secret, r.Job, r.Run, time.Now())
	})
}

// backoff is the wait behind the attempt that was begun last, with its jitter; or it was the last one.
func (d *hookDelivery) backoff() (wait time.Duration, last bool) {
	schedule := d.plan.catalog.Webhooks.Schedule
	if d.record.Tries > len(schedule) {
		return 0, true
	}
	wait = schedule[max(d.record.Tries, 1)-1]
	return wait + rand.N(time.Duration(webhookJitter*float64(wait))+1), false
}

// patience is how long a webhook may be on its way: all waits of its schedule at their longest, and a grace.
func patience(schedule []time.Duration) time.Duration {
	var sum time.Duration
	for _, wait := range schedule {
		sum += wait
	}
	return sum + time.Duration(webhookJitter*float64(sum)) + webhookGrace
}

// wholeSecond lengthens a wait until it ends with a second of the clock: asynq cuts off the rest, and would be early.
func wholeSecond(wait time.Duration) time.Duration {
	now := time.Now()
	return now.Add(wait + time.Second - time.Nanosecond).Truncate(time.Second).Sub(now)
}
