package worker

import (
	"context"
	"errors"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/worker/internal/policy"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// leaseMargin is how much longer a probe's lease is than the call, so that it outlives the call and its report.
const leaseMargin = 15 * time.Second

// made is one attempt that was made, and what came of it.
type made struct {
	route    gate.Route
	endpoint *catalog.Endpoint
	outcome  policy.Outcome
	body     []byte
	// cooldown is how long the model rests on the account after a 429.
	cooldown time.Duration
	ledger   tasks.Attempt
	report   gate.Outcome
	// hold is what was held of the budget for the call; called tells that it was made.
	hold   *gate.Hold
	called bool
}

// attempt makes one call: hold, admit, intent, call, settle. It returns what was made, or why it was refused, or an error
// that ends the delivery. A failure is settled and written to the ledger at once; a success together with its commit.
func (d *delivery) attempt(ctx context.Context, call call) (*made, *gate.Admission, error) {
	route, endpoint := call.route, call.endpoint
	admission, err := d.admit(ctx, call)
	if err != nil || !admission.Granted {
		return nil, &admission, err
	}
	result := &made{route: route, endpoint: endpoint, report: admission.Outcome(gate.Release)}
	if admission.StartIn > 0 {
		if !d.awaitPlace(ctx, admission) || d.heldBack() != nil {
			return nil, nil, errors.Join(errNotBegun, d.report(result.report))
		}
		// Others may have found out meanwhile that the endpoint is dead, or that the model has to rest.
		stands, err := d.plan.gate.Stands(ctx, admission)
		if err != nil || !stands {
			if err = errors.Join(err, d.report(result.report)); err != nil {
				return nil, nil, err
			}
			return d.attempt(ctx, call)
		}
	}
	if refused, err := d.keepHold(call); refused != nil || err != nil {
		return nil, refused, errors.Join(err, d.report(result.report))
	}
	key, err := d.plan.key(endpoint)
	if err != nil {
		// It says nothing of the endpoint: no other worker is to be kept from it.
		d.worker.log.Error().Err(err).EmbedObject(d).Str("endpoint", endpoint.Name).Dur("wait", keyWait).
			Msg("the endpoint's key cannot be read here; the job tries others, or waits")
		result.outcome = policy.Outcome{Class: tasks.ClassDeferred, Code: codeKeyMissing, Message: err.Error()}
		result.cooldown = keyWait
		return result, nil, d.settle(result)
	}
	result.ledger = d.intent(route, endpoint, admission)
	if err := d.begin(ctx, &result.ledger); err != nil {
		if outage(err) {
			d.hold = nil // the intent may be there: what becomes of the hold is decided by the ledger, once it expires
		}
		return nil, nil, errors.Join(err, d.report(result.report))
	}
	defer d.worker.series.out(route.Endpoint)()
	result.hold, d.hold = d.hold, nil
	if end := time.Now().Add(endpoint.Timeout); !admission.Valid(end) || !result.hold.Lasts(end) {
		// Writing the intent took so long that the lease might end during the call, and somebody else probe; or that the
		// hold might, and be taken for that of a dead worker.
		result.outcome = policy.Outcome{Class: tasks.ClassDeferred, Code: "lease_lost", Message: "the probe's lease ran out before the call"}
		return result, nil, d.settle(result)
	}
	d.call(ctx, result, key)
	if result.outcome.Class == "" {
		d.end(result)
		return result, nil, nil
	}
	return result, nil, d.settle(result)
}

const (
	// codeKeyMissing is what a job waits for when its worker cannot read the endpoint's key.
	codeKeyMissing = "key_missing"
	// keyWait is how soon it comes back.
	keyWait = 10 * time.Second
)

// errNotBegun tells that a call was admitted, to begin somewhat later, and the delivery was stopped, or its queue or task
// type paused, before.
var errNotBegun = errors.New("stopped before the call began")

// call is what a delivery asks leave for.
type call struct {
	route    gate.Route
	endpoint *catalog.Endpoint
	// tokens are those that limits count, and maxWait is how long the call may wait for them and is admitted.
	tokens  int
	maxWait time.Duration
}

// lease is how long the call may take, with its report.
func (c call) lease() time.Duration { return c.endpoint.Timeout + leaseMargin }

// intent is the attempt as it is written before the call.
func (d *delivery) intent(route gate.Route, endpoint *catalog.Endpoint, admission gate.Admission) tasks.Attempt {
	now := time.Now()
	return tasks.Attempt{
		Run: d.record.Run, Delivery: d.id, Worker: d.worker.id,
		Model: route.Model, Endpoint: route.Endpoint, Account: route.Account, Region: endpoint.Region,
		Probe: admission.Probe, Hold: d.number, Ask: d.asks, StartedAt: now.UTC(), CallDeadline: now.Add(endpoint.Timeout).UTC(),
	}
}

func (d *delivery) begin(ctx context.Context, attempt *tasks.Attempt) error {
	d.shown = shown{} // its script takes away what the job waited for
	seq, err := d.worker.store.Begin(ctx, d.job.ID, d.record.Run, *attempt)
	attempt.Seq = seq
	return err
}

// call makes the call in the worker's own context and fills in what came of it.
func (d *delivery) call(ctx context.Context, result *made, key string) {
	endpoint, model := result.endpoint, d.plan.catalog.Models[result.route.Model]
	callCtx, cancel := context.WithTimeoutCause(ctx, endpoint.Timeout, policy.ErrCallTimeout)
	defer cancel()
	upstream := d.plan.catalog.UpstreamName(endpoint, model.Name)
	span := d.beginCall(ctx, result, upstream)
	defer span.End()
	answer := d.plan.lines[endpoint.Name].Do(callCtx, provider.Call{
		Kind: d.job.Kind, Model: upstream, MaxTokensField: model.MaxTokensField,
		Body: d.job.Request, Key: key, RequestID: d.job.ID, Trace: d.upstreamTrace(span),
	})
	outcome := policy.Classify(d.job.Kind, answer)
	outcome.Message, outcome.Detail = provider.Redact(outcome.Message, key), provider.Redact(outcome.Detail, key)
	if outcome.Refusal != nil {
		outcome.Refusal = []byte(provider.Redact(string(outcome.Refusal), key))
	}
	if outcome.Class == "" && outcome.Usage == nil {
		outcome.Usage = policy.EstimateUsage(d.estimate(model.Name).Prompt, outcome.Text)
	}
	result.outcome, result.body, result.called = outcome, answer.Body, true
	result.ledger.LatencyMS, result.ledger.HTTPStatus = answer.Latency.Milliseconds(), answer.Status
	result.report.Latency = answer.Latency
	d.endCall(span, result)
}

// end completes the ledger's attempt and the report to the gate from the outcome.
func (d *delivery) end(result *made) {
	outcome, breaker := result.outcome, d.plan.catalog.Breaker
	result.ledger.Ended = true
	result.ledger.Class, result.ledger.Code = outcome.Class, outcome.Code
	result.ledger.Usage, result.ledger.MaybeBilled = outcome.Usage, outcome.MaybeBilled
	if outcome.Usage != nil {
		result.ledger.CostUSD = d.plan.catalog.Cost(result.route.Model, *outcome.Usage)
	}
	result.report.Effect, result.report.Cause = policy.For(outcome.Class).Effect, string(outcome.Class)
	if outcome.Usage != nil && !outcome.Usage.Estimated && result.report.Admitted > 0 {
		// Providers count the prompt and the bound when a call arrives: only the prompt was a guess.
		result.report.Tokens = outcome.Usage.PromptTokens + d.estimate(result.route.Model).Bound
	}
	d.worker.series.attempted(d.plan.catalog, d.job, result)
	result.report.RemainingRequests = remaining(outcome.RateLimit.Requests)
	result.report.RemainingTokens = remaining(outcome.RateLimit.Tokens)
	result.report.RequestsReset, result.report.TokensReset = outcome.RateLimit.Requests.Reset, outcome.RateLimit.Tokens.Reset
	switch result.report.Effect {
	case gate.Throttle:
		result.cooldown = breaker.Cooldown
		if outcome.RetryAfter > 0 {
			result.cooldown = outcome.RetryAfter
		}
		result.report.For = result.cooldown
	case gate.TripAccount:
		result.report.AccountEndpoints = d.plan.accountEndpoints[result.route.Account]
	case gate.Success, gate.Failure, gate.Ignore, gate.Release, gate.Trip, gate.NotServed:
	}
}

// remaining is what the provider says is left, for the clocks of the gate.
func remaining(limit policy.Limit) int {
	if !limit.Known {
		return gate.Unknown
	}
	return int(limit.Remaining)
}

// settle tells the gate and the ledger what came of a failed attempt, through outages of Redis.
func (d *delivery) settle(result *made) error {
	d.end(result)
	if result.ledger.Seq == 0 {
		return d.report(result.report) // refused before its intent was written
	}
	d.attempts = append(d.attempts, result.ledger)
	return d.worker.persist("write the end of an attempt to the ledger", d, func(ctx context.Context) error {
		ended, err := d.worker.store.EndOn(ctx, d.worker.pipe, d.job.ID, result.ledger)
		if err != nil {
			return err
		}
		settled := d.plan.gate.PipeSettle(ctx, d.worker.pipe, result.report)
		unheld := d.sendSettlement(result)
		_, err = ended.Reply(ctx)
		return errors.Join(err, d.readSettled(ctx, settled, result.report), unheld())
	})
}

// report tells the gate of an attempt that the ledger does not know.
func (d *delivery) report(outcome gate.Outcome) error {
	return d.worker.persist("report to the gate", d, func(ctx context.Context) error {
		change, err := d.plan.gate.Settle(ctx, outcome)
		if err == nil {
			d.followTransition(outcome, change)
		}
		return err
	})
}
