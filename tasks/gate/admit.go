package gate

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reason says why a call was refused.
type Reason string

// The reasons of a refusal. Where several apply, the one that lasts longest is given.
const (
	// ReasonBreakerOpen is a breaker whose recovery time has not passed.
	ReasonBreakerOpen Reason = "breaker_open"
	// ReasonProbeOut is a half-open breaker whose one probe lease is held by another attempt.
	ReasonProbeOut Reason = "probe_out"
	// ReasonCooldown is a model that the provider throttled on this account.
	ReasonCooldown Reason = "cooldown"
	// ReasonNotServed is a model that this endpoint said it does not have.
	ReasonNotServed Reason = "not_served"
)

// Admission is the gate's answer: leave for one call, or why not and when to ask again.
type Admission struct {
	Route Route
	Token string
	// Granted is leave to make one call, to be settled whatever comes of it.
	Granted bool
	// Reason and RetryIn are those of a refusal. Sooner than RetryIn the call cannot be granted, except that a probe
	// may come back before its lease ends.
	Reason  Reason
	RetryIn time.Duration
	// Generation is the breaker's, to be handed back with the outcome.
	Generation int64
	// Probe marks the one call that tries a half-open endpoint.
	Probe bool
	// ProbeUntil is when the probe lease ends, by this process's clock and rather too early than too late. The call
	// has to end by then. Zero unless Probe.
	ProbeUntil time.Time
}

// Valid says whether the call may still be out at a time. Ask right before sending, for the time at which the call ends
// at the latest; a probe that would outlast its lease must not be sent, for another may be out by then: settle it with
// Release and ask anew.
func (a Admission) Valid(at time.Time) bool {
	return a.Granted && (!a.Probe || at.Before(a.ProbeUntil))
}

// Outcome is what came of the admitted call. Fill in the latency of a Success.
func (a Admission) Outcome(effect Effect) Outcome {
	return Outcome{Route: a.Route, Token: a.Token, Generation: a.Generation, Effect: effect}
}

// Admit asks for leave to make one call on the route. The token is the attempt's alone, at most a few dozen bytes;
// asking again with the same token, before it is settled, is answered with the same lease. The lease, at least 10ms,
// is how long the call may take if it becomes the probe. A refusal is no error and leaves no trace in Redis. Callers
// who ask for the same route at the same time ask together.
func (g *Gate) Admit(ctx context.Context, route Route, token string, lease time.Duration) (Admission, error) {
	if token == "" {
		return Admission{}, fmt.Errorf("admit %s: the attempt has no token", route)
	}
	if lease < 10*time.Millisecond {
		return Admission{}, fmt.Errorf("admit %s: a probe lease must last at least 10ms, got %s", route, lease)
	}
	mine := question{token, lease}
	admission, err := g.admissions.Ask(route, mine)
	if err == nil && admission.Token == "" {
		return g.admitOne(ctx, route, mine)
	}
	return admission, err
}

func (g *Gate) admitOne(ctx context.Context, route Route, mine question) (Admission, error) {
	token, lease := mine.token, mine.lease
	asked := time.Now()
	reply, err := admitScript.Run(ctx, g.client, []string{
		g.keys.Endpoint(route.Account, route.Endpoint),
		g.keys.ModelLimits(route.Account, route.Model),
		g.keys.EndpointModelLimits(route.Account, route.Endpoint, route.Model),
	}, token, milliseconds(lease)).Slice()
	if err != nil {
		return Admission{}, fmt.Errorf("admit %s: ask Redis: %w", route, err)
	}
	admission, err := parseAdmission(reply)
	if err != nil {
		return Admission{}, fmt.Errorf("admit %s: %w", route, err)
	}
	admission.Route, admission.Token = route, token
	if admission.Probe {
		// Redis starts the lease after this moment. It counts in whole milliseconds, and clocks run apart.
		admission.ProbeUntil = asked.Add(lease - time.Millisecond - lease/1000)
	}
	return admission, nil
}

var errReply = errors.New("unexpected reply of the script; do all workers run the same build?")

// parseAdmission reads {granted 0|1, reason, retry_in_ms, generation, probe 0|1}.
func parseAdmission(reply []any) (Admission, error) {
	if len(reply) != 5 {
		return Admission{}, fmt.Errorf("%w (%d values)", errReply, len(reply))
	}
	granted, ok1 := reply[0].(int64)
	reason, ok2 := reply[1].(string)
	retryIn, ok3 := reply[2].(int64)
	generation, ok4 := reply[3].(int64)
	probe, ok5 := reply[4].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || (granted == 1) != (reason == "") {
		return Admission{}, fmt.Errorf("%w (%v)", errReply, reply)
	}
	return Admission{
		Granted: granted == 1, Reason: Reason(reason), RetryIn: time.Duration(retryIn) * time.Millisecond,
		Generation: generation, Probe: probe == 1,
	}, nil
}
