package worker

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/worker/internal/policy"
)

// conclusion is what a delivery comes to: the job has ended (ended is its status), or it goes back into the queue to
// be delivered again at the earliest after wait.
type conclusion struct {
	ended   tasks.Status
	answer  *made
	failure *tasks.Failure
	// said is the provider's body, where it refused what the job asks for.
	said []byte

	wait    time.Duration
	waiting tasks.Waiting
	// refused is the nearest refusal of the gate, if that is what the job waits for.
	refused *gate.Admission
	// spends tells that the delivery failed and costs the job one of its retries.
	spends bool
	// superseded tells that the job is no longer this delivery's: another one, or nobody, has it.
	superseded bool
}

// walk is one pass over the routes of a job.
type walk struct {
	*delivery
	deniedAccounts map[string]bool
	// window is the size that a model must exceed once one was too small, in tokens.
	window int
	// failure is that of the last call which failed; spent tells that it costs a retry.
	failure *tasks.Failure
	spent   bool
	// said is the body of that call's answer, where it refused what the job asks for; finalSaid is that of final.
	said, finalSaid []byte
	// withheld tells that a model's answer fell to its provider's policy.
	withheld bool
	// final is a failure that only another model could mend; nil again once one has been asked.
	final   *tasks.Failure
	refused []refusal
	// oversize is why a route could never do the job.
	oversize *tasks.Failure
	// called tells that the endpoint in hand was called, and asked counts all calls and refusals of the walk.
	called bool
	asked  int
	// beyond is why the cheapest of the models asked costs more than the job, or any day, has: nil while none does.
	beyond      *tasks.Failure
	beyondModel string
	// degraded tells that the cheaper models of the tiers are among those of the walk.
	degraded bool
}

// refusal is a route that the gate did not admit.
type refusal struct {
	route     gate.Route
	admission gate.Admission
}

// walkRoutes tries the job's routes in order until one answers: models in the job's order, for each the endpoints
// that serve it in their order.
func (d *delivery) walkRoutes(ctx context.Context) conclusion {
	w := &walk{delivery: d, deniedAccounts: map[string]bool{}}
	d.exhausted = nil
	defer d.giveHoldBack()
	models := d.plan.catalog.ModelsFor(d.job)
	for i := 0; i < len(models); i++ {
		model := models[i]
		if !w.mayMend(model) {
			continue
		}
		final, asked := w.final, w.asked
		w.final = nil
		if end := w.tryModel(ctx, model); end != nil {
			return *end
		}
		if w.asked == asked {
			w.final = final // nobody there to mend it
		}
		if i+1 == len(models) {
			models = w.withCheaper(models)
		}
	}
	return w.conclude()
}

// mayMend tells whether a model could do what those before it could not.
func (w *walk) mayMend(model string) bool {
	if w.window > 0 && w.plan.catalog.Models[model].ContextWindow <= w.window {
		return false
	}
	taskType := w.plan.catalog.TaskTypes[w.job.TaskType]
	return !w.withheld || (taskType != nil && taskType.ContentPolicyFallback)
}

// tryModel tries the endpoints of one model. It returns nil when the walk goes on to the next model.
func (w *walk) tryModel(ctx context.Context, model string) *conclusion {
	limited, failed := false, false
	endpoints := w.able(model)
	for i, endpoint := range endpoints {
		if w.deniedAccounts[endpoint.Account] {
			failed = true
			continue
		}
		var maxWait time.Duration
		if i == len(endpoints)-1 && !failed {
			maxWait = w.maxWait(model, w.refused)
		}
		next, end := w.tryEndpoint(ctx, model, endpoint, maxWait)
		if end != nil {
			return end
		}
		switch next {
		case policy.LargerModel:
			// A window that the catalog does not know counts as 1: any known one may be larger.
			w.window = max(w.window, w.plan.catalog.Models[model].ContextWindow, 1)
			return nil
		case policy.NextModel:
			w.withheld = true
			return nil
		case policy.Limited:
			limited = true
		case policy.OtherAccounts:
			w.deniedAccounts[endpoint.Account] = true
			failed = true
		default:
			failed = failed || w.called
		}
	}
	if limited && !failed && !w.spills() {
		return w.awaitLimits(ctx, model)
	}
	return nil
}

// spills tells whether a job that meets only limits goes on to another model instead of waiting: its task type says
// so, or the wait would pass its deadline.
func (w *walk) spills() bool {
	if taskType := w.plan.catalog.TaskTypes[w.job.TaskType]; taskType != nil && taskType.Spill {
		return true
	}
	if w.degrades() {
		return true
	}
	nearest, found := w.nearest(func(a gate.Admission) time.Duration { return a.RetryIn })
	return found && w.job.Deadline != nil && time.Now().Add(nearest.admission.RetryIn).After(*w.job.Deadline)
}

// tryEndpoint makes the calls that the endpoint gets of this delivery, each admitted anew.
func (w *walk) tryEndpoint(
	ctx context.Context, model string, endpoint *catalog.Endpoint, maxWait time.Duration,
) (policy.Next, *conclusion) {
	w.called = false
	route := gate.Route{Account: endpoint.Account, Endpoint: endpoint.Name, Model: model}
	for try := range endpoint.Tries {
		if try > 0 && !pause(ctx, w.tryBackoff(try)) {
			return 0, w.cutOff(ctx)
		}
		if w.worker.draining() {
			return 0, w.giveBack()
		}
		if held := w.heldBack(); held != nil {
			return 0, held
		}
		if beyond := w.unaffordable(model); beyond != nil {
			if w.beyond == nil || w.worst(model) < w.worst(w.beyondModel) {
				w.beyond, w.beyondModel = beyond, model
			}
			return policy.NextRoute, nil
		}
		made, refused, err := w.attempt(ctx, call{route, endpoint, w.tokens(route), maxWait})
		switch {
		case err != nil:
			return 0, w.interrupted(ctx, err)
		case refused != nil:
			w.asked++
			w.refused = append(w.refused, refusal{route, *refused})
			w.noteRefusal(*refused)
			if refused.Reason.Limited() {
				return policy.Limited, nil
			}
			return policy.NextRoute, nil
		}
		next, end := w.judge(made)
		if end != nil || next != policy.AgainThenNextRoute {
			return next, end
		}
	}
	return policy.NextRoute, nil
}

// judge says what follows from an attempt.
func (w *walk) judge(made *made) (policy.Next, *conclusion) {
	verdict := policy.For(made.outcome.Class)
	w.called = true
	w.asked++
	if made.outcome.Class != "" {
		w.failure = made.outcome.Failure(made.route.Model, made.route.Endpoint)
		w.said = made.outcome.Refusal
	}
	switch verdict.Next {
	case policy.End:
		if verdict.Status == tasks.StatusSucceeded {
			return verdict.Next, &conclusion{ended: verdict.Status, answer: made}
		}
		return verdict.Next, &conclusion{ended: verdict.Status, failure: w.failure, said: w.said}
	case policy.GiveBack:
		return verdict.Next, w.giveBack()
	case policy.LargerModel, policy.NextModel:
		w.final, w.finalSaid = w.failure, w.said
	case policy.Limited:
		w.called = false
		reason := gate.ReasonCooldown
		if made.outcome.Code == codeKeyMissing {
			reason = codeKeyMissing
		}
		w.refused = append(w.refused, refusal{
			made.route, gate.Admission{Route: made.route, Reason: reason, RetryIn: made.cooldown, TicketIn: made.cooldown},
		})
	case policy.AgainThenNextRoute, policy.NextRoute, policy.OtherAccounts, policy.Later:
	}
	w.spent = w.spent || verdict.Spends
	return verdict.Next, nil
}

// conclude ends a walk that found no answer.
func (w *walk) conclude() conclusion {
	switch {
	case w.final != nil:
		return conclusion{ended: tasks.StatusFailed, failure: w.final, said: w.finalSaid}
	case w.beyond != nil && w.asked == 0:
		return conclusion{ended: tasks.StatusFailed, failure: w.beyond}
	case w.spent:
		return w.failedDelivery(w.failure)
	}
	if end := w.deferred(); end != nil {
		return *end
	}
	if len(w.refused) > 0 {
		route := w.refused[0].route
		return w.failedDelivery(&tasks.Failure{
			Class: tasks.ClassNotServed, Code: "not_served_anywhere",
			Message: "no endpoint serves " + route.Model + " at the moment: each has said so itself",
			Hint:    "list the models that each endpoint serves under its `models` in the configuration",
		})
	}
	if w.oversize != nil {
		return conclusion{ended: tasks.StatusFailed, failure: w.oversize}
	}
	if w.record.Deliveries < strangeDeliveries {
		// The way in knew a route. While a configuration is rolled out, another worker may know it already.
		now := time.Now().UTC()
		w.worker.log.Warn().EmbedObject(w.delivery).Dur("wait", strangeWait).
			Msg("no endpoint of this worker's configuration serves any of the job's models; it goes back, as another worker may know better")
		return conclusion{wait: strangeWait, waiting: tasks.Waiting{Reason: reasonNoRoute, Since: now, Until: now.Add(strangeWait)}}
	}
	return conclusion{ended: tasks.StatusFailed, failure: &tasks.Failure{
		Class: tasks.ClassInvalid, Code: reasonNoRoute,
		Message: "no endpoint of this worker's configuration serves any of the job's models",
		Hint:    "add one to `endpoints`, or list the model under the `models` of one, and enqueue the job again",
	}}
}

const (
	// reasonNoRoute is what a job waits for, and in the end fails by, that this worker's configuration has no route for.
	reasonNoRoute = "no_route"
	// strangeWait is how soon such a job is delivered again, and strangeDeliveries how many deliveries it is worth: five
	// minutes in all.
	strangeWait       = 15 * time.Second
	strangeDeliveries = 20
)

// tryBackoff is the wait before a further call at the same endpoint: it doubles, and half of it is chance.
func (w *walk) tryBackoff(try int) time.Duration {
	wait := w.plan.catalog.Retry.TryBackoff << (try - 1)
	return wait/2 + rand.N(wait/2+1)
}

// pause waits, and reports whether it was not cut off.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
