package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
)

const (
	// dayJitter spreads the jobs that wait for the next day over its first minutes.
	dayJitter = 3 * time.Minute
	// passingWait is how soon, and up to twice as late, a job asks again that only the holds of calls which are out
	// keep from going on.
	passingWait = 5 * time.Second
	// heldLonger is by how much a hold outlives the call for which it is used again.
	heldLonger = 5 * time.Second
)

// purse is what a delivery has to do with the budget.
type purse struct {
	// hold was taken and no call has used it yet; number is its number among the delivery's, of which holds were asked for.
	hold          *gate.Hold
	number, holds int
	// exhausted is the walk's last refusal, until when it holds.
	exhausted *gate.Exhausted
	until     time.Time
}

// worst is what a call of the model costs at worst, in billionths of a dollar.
func (d *delivery) worst(model string) int64 {
	return gate.Nanos(d.plan.catalog.Cost(model, d.estimate(model).Usage()))
}

// unaffordable says, with the numbers, why no call of the model can ever be made for this job; nil when one can.
func (d *delivery) unaffordable(model string) *tasks.Failure {
	worst := d.worst(model)
	if d.job.MaxCostUSD != nil {
		if most, spent := gate.Nanos(*d.job.MaxCostUSD), d.spent(); spent+worst > most {
			return d.tooDear(model, "over_max_cost", "max_cost_usd",
				fmt.Sprintf("and $%s of the job's max_cost_usd of $%s are left", usd(max(0, most-spent)), usd(most)))
		}
	}
	if scope, limit, never := d.plan.budget.Never(d.job.Tenant, d.job.TaskType, worst); never {
		return d.tooDear(model, "over_budget", "the budget",
			fmt.Sprintf("more than the whole daily budget of %s, $%s", scope, usd(limit)))
	}
	return nil
}

func (d *delivery) tooDear(model, code, limit, why string) *tasks.Failure {
	return &tasks.Failure{
		Class: tasks.ClassInvalid, Code: code,
		Message: fmt.Sprintf("a call of %s may cost $%s (%d tokens of prompt, at most %d of answer), %s",
			model, usd(d.worst(model)), d.estimate(model).Prompt, d.estimate(model).Bound, why),
		Hint: "raise " + limit + ", lower the request's max_tokens, or let it use a cheaper model",
	}
}

// spent is what the job's calls have cost up to now, at worst for those of which it is not known.
func (d *delivery) spent() int64 {
	var sum int64
	for _, attempt := range slices.Concat(d.record.Attempts, d.attempts) {
		if attempt.MaybeBilled || !attempt.Ended {
			sum += d.worst(attempt.Model)
		} else {
			sum += gate.Nanos(attempt.CostUSD)
		}
	}
	return sum
}

func usd(nanos int64) string { return strconv.FormatFloat(gate.USD(nanos), 'f', -1, 64) }

// admit asks the budget for a hold and the gate for leave to make one call, both at once. What the budget refuses
// looks like a refusal of the gate's. A hold whose call is not admitted stays for the walk's next route.
func (d *delivery) admit(ctx context.Context, call call) (gate.Admission, error) {
	if d.knownExhausted(call) {
		return d.refusedByBudget(call.route), nil
	}
	held := d.sendHold(call)
	d.asks++
	admission, err := d.plan.gate.Admit(ctx, call.route, gate.Ask{
		Token: numbered(d.id, d.asks), Lease: call.lease(), Tokens: call.tokens,
		Priority: d.job.Priority, Waited: d.waited(), MaxWait: call.maxWait,
	})
	refused, unheld := held()
	if err = errors.Join(err, unheld); err == nil && !refused {
		return admission, nil
	}
	if admission.Granted {
		err = errors.Join(err, d.report(admission.Outcome(gate.Release)))
	}
	return d.refusedByBudget(call.route), err
}

// keepHold takes the hold anew that would not outlive the call, because the call had to wait for its limits. It returns
// the refusal if the budget has no room for it any more.
func (d *delivery) keepHold(call call) (*gate.Admission, error) {
	refused, err := d.sendHold(call)()
	if err == nil && refused {
		return new(d.refusedByBudget(call.route)), nil
	}
	return nil, err
}

// sendHold asks for a hold for the call, unless the one at hand is enough, and returns what waits for the answer: whether
// it was refused.
func (d *delivery) sendHold(call call) (wait func() (refused bool, err error)) {
	worst := d.worst(call.route.Model)
	if d.holdsFor(worst, call.endpoint.Timeout) {
		return func() (bool, error) { return false, nil }
	}
	d.holds++
	number := d.holds
	pending := d.plan.budget.SendHold(gate.HoldRequest{
		Token: numbered(d.id, number), Job: d.job.ID, Tenant: d.job.Tenant, TaskType: d.job.TaskType,
		Amount: worst, Lease: call.lease(), Replaces: d.hold,
	})
	return func() (bool, error) {
		answer, err := pending.Wait()
		switch {
		case err != nil:
			d.hold = nil // it may be another by now; either expires by itself
		case answer.Hold != nil:
			d.hold, d.number = answer.Hold, number
		default:
			wait := passingWait + rand.N(passingWait)
			if !answer.Exhausted.Passing() {
				wait = answer.Exhausted.NextDay + rand.N(dayJitter)
			}
			d.exhausted, d.until = answer.Exhausted, time.Now().Add(wait)
			return true, nil
		}
		return false, err
	}
}

// holdsFor tells whether the hold at hand is enough for a call of the worst case that takes so long.
func (d *delivery) holdsFor(worst int64, timeout time.Duration) bool {
	return d.hold != nil && d.hold.Amount >= worst && d.hold.Lasts(time.Now().Add(timeout+heldLonger))
}

// knownExhausted tells whether the walk was told a moment ago that the budget has no room for the call.
func (d *delivery) knownExhausted(call call) bool {
	worst := d.worst(call.route.Model)
	return d.exhausted != nil && worst >= d.exhausted.Amount && !d.holdsFor(worst, call.endpoint.Timeout)
}

func (d *delivery) refusedByBudget(route gate.Route) gate.Admission {
	wait := max(0, time.Until(d.until))
	return gate.Admission{Route: route, Reason: gate.ReasonBudget, RetryIn: wait, TicketIn: wait}
}

// numbered names a delivery's n-th hold, and its n-th question to the gate; the ledger's attempt has both numbers.
func numbered(delivery string, n int) string { return delivery + "." + strconv.Itoa(n) }

// giveHoldBack gives back the hold that no call of the walk has used. Where that fails it expires by itself.
func (d *delivery) giveHoldBack() {
	if d.hold != nil {
		if _, err := d.plan.budget.Settle(gate.Settlement{Hold: *d.hold}); err != nil {
			d.worker.log.Debug().Err(err).EmbedObject(d).Msg("a hold expires by itself")
		}
		d.hold = nil
	}
}

// sendSettlement reports to the budget what an attempt cost, and returns what waits for the answer.
func (d *delivery) sendSettlement(made *made) (wait func() error) {
	if made.hold == nil {
		return func() error { return nil }
	}
	settlement := gate.Settlement{Hold: *made.hold}
	if made.called {
		call := &gate.CallCost{
			TaskType: d.job.TaskType, Model: made.route.Model, Endpoint: made.route.Endpoint, Tenant: d.job.Tenant,
		}
		switch usage := made.outcome.Usage; {
		case usage != nil:
			call.Usage, call.Nanos = *usage, gate.Nanos(made.ledger.CostUSD)
		case made.outcome.MaybeBilled:
			call.MaybeBilled, call.Nanos = true, d.worst(made.route.Model)
		}
		settlement.Call = call
	}
	ticket := d.plan.budget.SendSettle(settlement)
	return func() error {
		_, err := ticket.Wait()
		return err
	}
}

// outOfBudget concludes a walk that the budget stopped, as its catalog says: the job waits, or has failed.
func (d *delivery) outOfBudget(route gate.Route) *conclusion {
	e := *d.exhausted
	if !e.Passing() && d.plan.catalog.OnExhausted(d.job) == catalog.Fail {
		return &conclusion{ended: tasks.StatusFailed, failure: &tasks.Failure{
			Class: tasks.ClassDeferred, Code: "budget_exhausted",
			Message: fmt.Sprintf("a call of %s may cost $%s, and of the daily budget of %s, $%s, $%s is spent and $%s held for calls that are out",
				route.Model, usd(e.Amount), e.Scope, usd(e.Limit), usd(e.Spent), usd(e.Held)),
			Hint: "raise the budget of " + e.Scope.String() + ", set on_exhausted to defer (such jobs wait) or degrade (they take a cheaper model), or enqueue it under another id after " +
				d.plan.catalog.Budget.NextDay(time.Now()),
		}}
	}
	now := time.Now()
	wait := max(0, d.until.Sub(now))
	return &conclusion{wait: wait, waiting: tasks.Waiting{
		Reason: string(gate.ReasonBudget), Limit: e.Scope.String(), Route: route.String(), Since: now.UTC(), Until: now.Add(wait).UTC(),
	}}
}

// degrades tells whether the job goes on to cheaper models because the day's budget is exhausted.
func (d *delivery) degrades() bool {
	return d.exhausted != nil && !d.exhausted.Passing() && d.plan.catalog.OnExhausted(d.job) == catalog.Degrade
}

// withCheaper adds the cheaper models of the tiers to those that a walk has tried, once the budget had no room for
// them. A job that names its models gets no other, nor does an embedding that must keep to its model.
func (w *walk) withCheaper(models []string) []string {
	taskType := w.plan.catalog.TaskTypes[w.job.TaskType]
	keeps := w.job.Kind == tasks.KindEmbedding && (taskType == nil || !taskType.AllowModelChange)
	if w.degraded || !w.degrades() || keeps || len(w.job.Model) > 0 || len(models) == 0 {
		return models
	}
	w.degraded = true
	all := slices.Clone(models)
	for _, model := range w.plan.catalog.CheaperTiers(models[0]) {
		if !slices.Contains(all, model) && w.worst(model) < w.exhausted.Amount {
			all = append(all, model)
		}
	}
	return all
}
