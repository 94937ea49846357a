package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Effect is what the outcome of a call means to the gate. Whatever the effect, a probe gives its lease back.
type Effect string

// The effects. "Consecutive" counts skip the effects that say nothing about the endpoint's health.
const (
	// Success is an endpoint that works: it ends the consecutive failures, and a probe closes the breaker.
	Success Effect = "success"
	// Failure is an endpoint that cannot answer: enough of them in a row open the breaker for Recovery, and that of a
	// probe opens it again.
	Failure Effect = "failure"
	// Ignore is a call that says nothing about the endpoint: one that it rightly refused, or that was cut off by us. It
	// is counted as a call. The breaker stays half-open after such a probe, and the next attempt may probe.
	Ignore Effect = "ignore"
	// Release gives back an admission whose call was never sent. Nothing is counted.
	Release Effect = "release"
	// Trip is a failure that does not mend itself within a minute: the breaker opens at once, for LongRecovery.
	Trip Effect = "trip"
	// TripAccount is a Trip that opens the breakers of all endpoints of the account.
	TripAccount Effect = "trip_account"
	// Throttle is a model that rests on this account, at all its endpoints, for Cooldown. To the breaker it is Ignore.
	Throttle Effect = "throttle"
	// NotServed is a model that this endpoint does not have, remembered for NotServed. To the breaker it is Ignore.
	NotServed Effect = "not_served"
)

// Unknown is a number of which the provider has said nothing.
const Unknown = -1

// Effects lists every effect.
func Effects() []Effect {
	return []Effect{Success, Failure, Ignore, Release, Trip, TripAccount, Throttle, NotServed}
}

// Outcome is the report on one admitted call: see Admission.Outcome.
type Outcome struct {
	Route  Route
	Token  string
	Effect Effect
	// Generation is the admission's.
	Generation int64
	// Latency is that of a Success.
	Latency time.Duration
	// Cause is the class of a failure, shown while the breaker is open for it.
	Cause string
	// Admitted are the tokens that the call was admitted with, Tokens those that count: the clocks are set right by the
	// difference. A Release gives all back.
	Admitted, Tokens int
	// RemainingRequests and RemainingTokens are what the provider says is left in the minute, or Unknown. Where it is
	// less than may begin at once by the clocks, these wait.
	RemainingRequests, RemainingTokens int
	// RequestsReset and TokensReset are how long the provider says it takes until its limits are whole again. Where nothing
	// remains and no clock of ours knows the limit, the model rests for so long, as after a Throttle. 0 is unknown.
	RequestsReset, TokensReset time.Duration
	// For is how long the effect lasts: the cooldown of a Throttle (its Retry-After), the memory of NotServed, the time
	// a Failure, Trip or TripAccount keeps the breaker open. Defaults to the settings'; so do times that have passed.
	// Cooldowns and memories are never shortened, nor are the other breakers that TripAccount finds open.
	For time.Duration
	// AccountEndpoints are all endpoints of the account, for TripAccount. The route's own may be among them.
	AccountEndpoints []string
}

// Change is what happened to a breaker.
type Change string

// The changes of a breaker.
const (
	Unchanged Change = ""
	// Opened is a closed breaker that opened: a trip.
	Opened Change = "opened"
	// Reopened is a probe that failed.
	Reopened Change = "reopened"
	// Closed is a probe that succeeded: a recovery.
	Closed Change = "closed"
)

// Transition says what a report did.
type Transition struct {
	Change Change
	// Generation is the breaker's, after the report.
	Generation int64
	// OthersOpened are the account's other endpoints whose closed breakers a TripAccount opened.
	OthersOpened []string
	// Late marks a report from before a change of the breaker, or of a probe whose lease went to another: it was
	// counted and changed no state.
	Late bool
	// Duplicate marks a report that had been given before: it did nothing.
	Duplicate bool
}

// Settle reports what came of an admitted call. It may be repeated until it succeeds: an attempt is settled once.
// Reports on one route that are given at the same time travel together.
func (g *Gate) Settle(_ context.Context, outcome Outcome) (Transition, error) {
	if err := outcome.validate(); err != nil {
		return Transition{}, err
	}
	transition, err := g.reports.Ask(outcome.Route, outcome)
	g.permits.next(outcome.Route.Account)
	return transition, err
}

// settleAll reports several calls on one route in one script.
func (g *Gate) settleAll(ctx context.Context, route Route, outcomes []Outcome) ([]Transition, error) {
	keys, args, others := g.settleArguments(route, outcomes)
	return readTransitions(settleScript.Run(ctx, g.client, keys, args...), route, len(outcomes), others)
}

// PendingSettle is a report that travels in a pipeline.
type PendingSettle struct {
	gate    *Gate
	outcome Outcome
	cmd     *redis.Cmd
	others  []string
	err     error
}

// PipeSettle queues a report in a pipeline (no transaction, on Cluster) or a deferred autopipeliner. After the
// pipeline's Exec, whatever that returned, read the Result of the report.
func (g *Gate) PipeSettle(ctx context.Context, pipe redis.Cmdable, outcome Outcome) *PendingSettle {
	pending := &PendingSettle{gate: g, outcome: outcome, err: outcome.validate()}
	if pending.err == nil {
		keys, args, others := g.settleArguments(outcome.Route, []Outcome{outcome})
		pending.cmd, pending.others = settleScript.EvalSha(ctx, pipe, keys, args...), others
	}
	return pending
}

// Result is what the report did. When Redis did not know the script, the report is given now, with the whole of it.
// After any other error the report may or may not have been given: repeat it by Settle.
func (p *PendingSettle) Result(ctx context.Context) (Transition, error) {
	if p.err != nil {
		return Transition{}, p.err
	}
	if err := p.cmd.Err(); errors.Is(err, redis.ErrNoScript) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		return p.gate.Settle(ctx, p.outcome)
	}
	p.gate.permits.next(p.outcome.Route.Account)
	transitions, err := readTransitions(p.cmd, p.outcome.Route, 1, p.others)
	if err != nil {
		return Transition{}, err
	}
	return transitions[0], nil
}

func (o Outcome) validate() error {
	switch {
	case o.Token == "":
		return fmt.Errorf("settle %s: the attempt has no token", o.Route)
	case !slices.Contains(Effects(), o.Effect):
		return fmt.Errorf("settle %s: unknown effect %q", o.Route, o.Effect)
	case o.Latency < 0:
		return fmt.Errorf("settle %s: the latency must not be negative, got %s", o.Route, o.Latency)
	}
	return nil
}

// settleArguments are those of settle.lua, and the account's other endpoints.
func (g *Gate) settleArguments(route Route, outcomes []Outcome) (keys []string, args []any, others []string) {
	known := g.known(route)
	keys, args = known.settleKeys, known.settleArgs
	for _, o := range outcomes {
		args = append(args, o.Token, o.Generation, string(o.Effect), o.Latency.Microseconds(), milliseconds(g.period(o)),
			o.For <= 0, o.cause(), o.Admitted, o.Tokens, o.RemainingRequests, o.RemainingTokens, milliseconds(known.rests(o)))
		if o.Effect != TripAccount || len(others) > 0 {
			continue
		}
		for _, endpoint := range o.AccountEndpoints {
			if endpoint != route.Endpoint {
				others = append(others, endpoint)
				keys = append(keys, g.keys.Endpoint(route.Account, endpoint))
			}
		}
	}
	return keys, args, others
}

// cause is what is said of a breaker that opens by the outcome.
func (o Outcome) cause() string {
	if o.Effect == Success {
		return "slow" // calls that succeed open a breaker by their rate only
	}
	return o.Cause
}

// period is how long the effect lasts; 0 for those that do not.
func (g *Gate) period(o Outcome) time.Duration {
	if o.For > 0 {
		return o.For
	}
	switch o.Effect {
	case Failure, Success:
		return g.settings.Recovery
	case Trip, TripAccount:
		return g.settings.LongRecovery
	case Throttle:
		return g.settings.Cooldown
	case NotServed:
		return g.settings.NotServed
	case Ignore, Release:
	}
	return 0
}

// readTransitions reads one reply of settle.lua for each report.
func readTransitions(cmd *redis.Cmd, route Route, reports int, others []string) ([]Transition, error) {
	replies, err := cmd.Slice()
	if err != nil {
		return nil, fmt.Errorf("settle %d calls on %s in Redis: %w", reports, route, err)
	}
	if len(replies) != reports {
		return nil, fmt.Errorf("settle %d calls on %s: %w (%d values)", reports, route, errReply, len(replies))
	}
	transitions := make([]Transition, reports)
	for i, reply := range replies {
		if transitions[i], err = parseTransition(reply, others); err != nil {
			return nil, fmt.Errorf("settle %s: %w", route, err)
		}
	}
	return transitions, nil
}

// parseTransition reads a generation, or {counted|late|duplicate|released, change, generation, i...}, each i an index of
// others from 1.
func parseTransition(value any, others []string) (Transition, error) {
	if generation, ok := value.(int64); ok {
		return Transition{Generation: generation}, nil
	}
	reply, _ := value.([]any)
	if len(reply) < 3 {
		return Transition{}, fmt.Errorf("%w (%d values)", errReply, len(reply))
	}
	report, ok1 := reply[0].(string)
	change, ok2 := reply[1].(string)
	generation, ok3 := reply[2].(int64)
	if !ok1 || !ok2 || !ok3 {
		return Transition{}, fmt.Errorf("%w (%v)", errReply, reply)
	}
	transition := Transition{
		Change: Change(change), Generation: generation, Late: report == "late", Duplicate: report == "duplicate",
	}
	for _, value := range reply[3:] {
		index, ok := value.(int64)
		if !ok || index < 1 || int(index) > len(others) {
			return Transition{}, fmt.Errorf("%w (%v)", errReply, reply)
		}
		transition.OthersOpened = append(transition.OthersOpened, others[index-1])
	}
	return transition, nil
}
