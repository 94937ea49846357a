package worker

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
)

const (
	// waitsInPlace is how often a delivery waits in place before it goes back to the queue all the same, and
	// waitsForProbe the same while another attempt probes: nobody knows how long that takes.
	waitsInPlace, waitsForProbe = 10, 3
	// probePoll is how soon a job looks again that another one's probe keeps from its endpoint: most probes are answered
	// long before their lease ends.
	probePoll = 2 * time.Second
	// shortWait is what a delivery may wait on its slot without saying so in its job's record.
	shortWait = time.Second
)

// able lists the endpoints of a model that could ever take the job's call, and notes why one could not.
func (w *walk) able(model string) []*catalog.Endpoint {
	endpoints := w.plan.endpointsFor(model)
	if !w.plan.limitsTokens {
		return endpoints
	}
	var able []*catalog.Endpoint
	for _, endpoint := range endpoints {
		tokens := w.tokens(gate.Route{Account: endpoint.Account, Endpoint: endpoint.Name, Model: model})
		if scope, tooLarge := w.plan.catalog.TooLarge(endpoint, model, tokens); tooLarge {
			w.oversize = overLimit(model, scope, tokens)
			continue
		}
		able = append(able, endpoint)
	}
	return able
}

// maxWait is how long a call may wait for the limits of the last endpoint of a model: less than for any that refused it
// before, and not at all where another model may do it at once. The gate has a horizon of its own.
func (w *walk) maxWait(model string, refused []refusal) time.Duration {
	if taskType := w.plan.catalog.TaskTypes[w.job.TaskType]; taskType != nil && taskType.Spill {
		return 0
	}
	wait := w.untilDeadline()
	for _, r := range refused {
		if r.route.Model == model && r.admission.Reason.Limited() {
			wait = min(wait, r.admission.RetryIn)
		}
	}
	return wait
}

// untilDeadline is what is left of the job's time.
func (w *walk) untilDeadline() time.Duration {
	if w.job.Deadline == nil {
		return math.MaxInt64
	}
	return max(0, time.Until(*w.job.Deadline))
}

// awaitLimits takes a place at the nearest endpoint of a model that met limits only, where the gate has one within its
// horizon. Otherwise the job waits for it.
func (w *walk) awaitLimits(ctx context.Context, model string) *conclusion {
	nearest, found := w.nearest(func(a gate.Admission) time.Duration { return a.RetryIn })
	if !found {
		return nil
	}
	asked := w.refused[len(w.refused)-1]
	if asked.route != nearest.route && nearest.route.Model == model && clocked(nearest.admission.Reason) {
		endpoint := w.plan.catalog.Endpoints[nearest.route.Endpoint]
		if _, end := w.tryEndpoint(ctx, model, endpoint, w.untilDeadline()); end != nil {
			return end
		}
		if w.called {
			return nil // it was asked and failed: the walk goes on
		}
	}
	return w.deferred()
}

// clocked tells of a limit at which the gate gives out places ahead of time.
func clocked(reason gate.Reason) bool {
	return reason == gate.ReasonRequests || reason == gate.ReasonTokens
}

// deferred leaves the job until the nearest of its refused routes can be asked again; nil when there is none to wait for.
func (w *walk) deferred() *conclusion {
	nearest, found := w.nearest(func(a gate.Admission) time.Duration { return a.TicketIn })
	if !found {
		return nil
	}
	if nearest.admission.Reason == gate.ReasonBudget {
		return w.outOfBudget(nearest.route)
	}
	wait := nearest.admission.RetryIn
	if nearest.admission.Reason == gate.ReasonProbeOut {
		wait = min(wait, probePoll)
	}
	return &conclusion{wait: wait, refused: &nearest.admission, waiting: waitingFor(nearest.admission, wait)}
}

// waitingFor says of a job that it waits for what the gate has answered.
func waitingFor(admission gate.Admission, wait time.Duration) tasks.Waiting {
	now := time.Now()
	return tasks.Waiting{
		Reason: string(admission.Reason), Route: admission.Route.Model + "@" + admission.Route.Endpoint,
		Limit: admission.Limit, Cause: tasks.Class(admission.Cause), Since: now.UTC(), Until: now.Add(wait).UTC(),
	}
}

// nearest is the refused route that can be asked again, or whose ticket is, the soonest. One that does not serve its
// model is none.
func (w *walk) nearest(when func(gate.Admission) time.Duration) (refusal, bool) {
	latest := map[gate.Route]int{}
	for i, r := range w.refused {
		if r.admission.Reason != gate.ReasonNotServed {
			latest[r.route] = i
		}
	}
	var nearest refusal
	found := false
	for _, i := range latest {
		r := w.refused[i]
		if !found || when(r.admission) < when(nearest.admission) {
			nearest, found = r, true
		}
	}
	return nearest, found
}

// inPlace tells whether a delivery that has waited so often sits out this wait on its slot.
func (c conclusion) inPlace(waits int) bool {
	switch {
	case c.refused == nil:
		return c.wait <= waitInPlace && waits < waitsInPlace
	case clocked(c.refused.Reason):
		return false // the gate would have given it a place
	case c.refused.Reason == gate.ReasonProbeOut:
		return waits < waitsForProbe
	}
	return c.refused.TicketIn <= waitInPlace && waits < waitsInPlace
}

// shown is what the job's record says of a delivery that waits on its slot.
type shown struct {
	// since is when it began to wait for its next call, until what was last said.
	since, until time.Time
}

// show says in the job's record what the delivery waits for on its slot. A short wait is not worth a round trip; several
// in a row are a long one. The beginning of the call takes the word away.
func (d *delivery) show(ctx context.Context, waiting tasks.Waiting) {
	d.noteWait(waiting)
	if d.shown.since.IsZero() {
		d.shown = shown{waiting.Since, waiting.Since}
	}
	if waiting.Until.Sub(d.shown.until) <= shortWait {
		return
	}
	waiting.Since = d.shown.since
	if err := d.worker.store.SitOut(ctx, d.job.ID, d.record.Run, d.id, waiting); err != nil {
		// Where the job is no longer this delivery's, its next step says so as well.
		d.worker.log.Debug().Err(err).EmbedObject(d).Msg("the job waits, and its record does not say for what")
		return
	}
	d.shown.until = waiting.Until
}

// awaitPlace waits for the time at which an admitted call may begin. It reports whether it was not cut off.
func (d *delivery) awaitPlace(ctx context.Context, admission gate.Admission) bool {
	begins := time.Now().Add(admission.StartIn)
	d.worker.series.waited(string(admission.Reason))
	d.show(ctx, waitingFor(admission, admission.StartIn))
	return d.worker.pauseUnlessDraining(ctx, time.Until(begins))
}

// sitOut waits in place, for permits in the line of this process. It reports whether it was not cut off.
func (d *delivery) sitOut(ctx context.Context, end conclusion) bool {
	d.worker.series.waited(end.waiting.Reason)
	d.show(ctx, end.waiting)
	wait := time.Until(end.waiting.Until)
	if end.refused == nil || end.refused.Reason != gate.ReasonPermits {
		return d.worker.pauseUnlessDraining(ctx, wait)
	}
	turn, leave := d.plan.gate.Freed(end.refused.Route.Account)
	defer leave()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-d.worker.stopping:
		return false
	case <-ctx.Done():
		return false
	case <-turn:
	case <-timer.C:
	}
	return true
}

// returnIn is when a job that waits for the gate is to come back: at the time of its ticket, where it waits for a limit.
func (d *delivery) returnIn(ctx context.Context, end conclusion) time.Duration {
	if end.refused == nil || end.refused.Limit == "" {
		return end.wait
	}
	in, err := d.plan.gate.Ticket(ctx, *end.refused)
	if err != nil {
		d.worker.log.Warn().Err(err).EmbedObject(d).Msg("the job comes back without a ticket")
		return end.wait
	}
	return in
}

// waited is how long the job has been due.
func (d *delivery) waited() time.Duration {
	due := time.Time{}
	for _, at := range []*time.Time{d.job.CreatedAt, d.job.RunAt} {
		if at != nil && at.After(due) {
			due = *at
		}
	}
	if due.IsZero() {
		return 0
	}
	return time.Since(due)
}

// tokens are those of a call on a route that limits count: 0 where none does.
func (d *delivery) tokens(route gate.Route) int {
	if !d.plan.limitsTokens || !d.plan.gate.CountsTokens(route) {
		return 0
	}
	return d.estimate(route.Model).Tokens()
}

// estimate is what a call of the model may use. It is worked out once for a delivery.
func (d *delivery) estimate(model string) catalog.Estimate {
	if known, found := d.estimates[model]; found {
		return known
	}
	if d.estimates == nil {
		d.estimates = map[string]catalog.Estimate{}
	}
	d.estimates[model] = d.plan.catalog.Estimate(model, d.job, d.record.PromptTokens)
	return d.estimates[model]
}

func overLimit(model string, scope catalog.LimitScope, tokens int) *tasks.Failure {
	return &tasks.Failure{
		Class: tasks.ClassInvalid, Code: "over_limit",
		Message: "one call of " + model + " needs " + strconv.Itoa(tokens) + " tokens, its bound included, and " + scope.String() +
			" allows " + strconv.Itoa(scope.Limits.TokensPerMinute) + " a minute",
		Hint: "shorten the prompt or lower max_tokens, or raise tokens_per_minute to what the provider allows",
	}
}
