package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// Reason says why a call was refused.
type Reason string

// The reasons of a refusal. Where several apply, the one that lasts longest is given.
const (
	// ReasonBreakerOpen is a breaker whose recovery time has not passed.
	ReasonBreakerOpen Reason = "breaker_open"
	// ReasonProbeOut is a half-open breaker whose one probe lease is held by another attempt.
	ReasonProbeOut Reason = "probe_out"
	// ReasonRamp is an endpoint that has recovered and is not asked everything at once.
	ReasonRamp Reason = "ramp"
	// ReasonCooldown is a model that the provider throttled on this account.
	ReasonCooldown Reason = "cooldown"
	// ReasonNotServed is a model that this endpoint said it does not have.
	ReasonNotServed Reason = "not_served"
	// ReasonRequests and ReasonTokens are limits per minute, ReasonPermits is one of concurrency.
	ReasonRequests Reason = "requests"
	ReasonTokens   Reason = "tokens"
	ReasonPermits  Reason = "permits"
)

// Limited tells that the reason is a limit: another endpoint may have room, another model need not be asked.
func (r Reason) Limited() bool {
	switch r {
	case ReasonCooldown, ReasonRequests, ReasonTokens, ReasonPermits, ReasonBudget:
		return true
	case ReasonBreakerOpen, ReasonProbeOut, ReasonRamp, ReasonNotServed:
	}
	return false
}

// Ask is one attempt's question for leave.
type Ask struct {
	// Token is the attempt's alone, at most a few dozen bytes. Required.
	Token string
	// Lease is how long the call may take, with its report: that of a probe's lease and of permits, at least 10ms.
	Lease time.Duration
	// Tokens are those that the limits count: of the prompt, and the bound of the answer.
	Tokens int
	// Priority decides how far ahead a place may be taken while others wait, and who probes. Waited is how long the job
	// has waited for the gate so far.
	Priority tasks.Priority
	Waited   time.Duration
	// MaxWait is the longest wait for a limit's clock that is still a grant, at most 10s. 0 takes only what may begin at
	// once.
	MaxWait time.Duration
}

// Admission is the gate's answer: leave for one call, or why not and when to ask again.
type Admission struct {
	Route Route
	Token string
	// Granted is leave to make one call, in StartIn, to be settled whatever comes of it.
	Granted bool
	StartIn time.Duration
	// Tokens are those that were asked for.
	Tokens int
	// Reason is that of a refusal, or of a grant that is to begin somewhat later.
	Reason Reason
	// RetryIn is that of a refusal. Sooner than RetryIn the call cannot be granted, except that a probe
	// may come back before its lease ends, and calls before theirs with permits.
	RetryIn time.Duration
	// Limit is the scope of the limit that is the reason, as users read it; empty where it is none.
	Limit string
	// TicketIn is the time of the next ticket at the limit that refused; RetryIn where none did.
	TicketIn time.Duration
	// Cause is the class of the failure that opened the breaker.
	Cause string
	// Generation is the breaker's, to be handed back with the outcome.
	Generation int64
	// Probe marks the one call that tries a half-open endpoint.
	Probe bool
	// ProbeUntil is when the probe lease ends, by this process's clock and rather too early than too late. The call
	// has to end by then. Zero unless Probe.
	ProbeUntil time.Time

	rank  int           // of the priority that was asked for
	scope int           // the number of the scope that refused
	slot  time.Duration // what one such call takes of its limit
}

// Valid says whether the call may still be out at a time. Ask right before sending, for the time at which the call ends
// at the latest; a probe that would outlast its lease must not be sent, for another may be out by then: settle it with
// Release and ask anew.
func (a Admission) Valid(at time.Time) bool {
	return a.Granted && (!a.Probe || at.Before(a.ProbeUntil))
}

// Outcome is what came of the admitted call. Fill in the latency of a Success, and the tokens that really count.
func (a Admission) Outcome(effect Effect) Outcome {
	return Outcome{
		Route: a.Route, Token: a.Token, Generation: a.Generation, Effect: effect, Admitted: a.Tokens, Tokens: a.Tokens,
		RemainingRequests: Unknown, RemainingTokens: Unknown,
	}
}

// Admit asks for leave to make one call on the route. Asking again with the same token, before it is settled, is
// answered with the same probe lease and permits; of a clock it takes twice. A refusal is no error and consumes nothing.
// Callers who ask for the same route at the same time ask together.
func (g *Gate) Admit(ctx context.Context, route Route, ask Ask) (Admission, error) {
	if ask.Token == "" {
		return Admission{}, fmt.Errorf("admit %s: the attempt has no token", route)
	}
	if ask.Lease < 10*time.Millisecond {
		return Admission{}, fmt.Errorf("admit %s: a probe lease must last at least 10ms, got %s", route, ask.Lease)
	}
	if err := ctx.Err(); err != nil {
		return Admission{}, fmt.Errorf("admit %s: %w", route, context.Cause(ctx))
	}
	return g.admissions.Ask(route, ask)
}

// admitAll asks for several attempts on one route in one script.
func (g *Gate) admitAll(ctx context.Context, route Route, asks []Ask) ([]Admission, error) {
	known := g.known(route)
	scopes, args := known.scopes, known.admitArgs
	for _, ask := range asks {
		args = append(args, ask.Token, milliseconds(ask.Lease), milliseconds(patience(ask.Priority)), ask.Tokens,
			rank(ask.Priority), grown(ask.Waited).Microseconds(), min(ask.MaxWait, longestWait).Microseconds())
	}
	asked := time.Now()
	reply, err := admitScript.Run(ctx, g.client, known.admitKeys, args...).Slice()
	if err != nil {
		return nil, fmt.Errorf("admit %s: ask Redis: %w", route, err)
	}
	admissions, err := parseAdmissions(reply, len(asks), len(scopes))
	if err != nil {
		return nil, fmt.Errorf("admit %s: %w", route, err)
	}
	for i := range admissions {
		admission, ask := &admissions[i], asks[i]
		admission.Route, admission.Token, admission.Tokens = route, ask.Token, ask.Tokens
		if admission.Probe {
			// Redis starts the lease after this moment. It counts in whole milliseconds, and clocks run apart.
			admission.ProbeUntil = asked.Add(admission.StartIn + ask.Lease - time.Millisecond - ask.Lease/1000)
		}
		if admission.scope > 0 {
			admission.rank = rank(ask.Priority)
			admission.Limit = scopes[admission.scope-1].String()
		}
	}
	return admissions, nil
}

// Ticket takes a place in the line before the limit that refused, for a call that goes back to the queue, and returns
// when to come back: the horizon's half before its time, so that somebody always waits where a place becomes free. A
// ticket reserves nothing. A refusal that is no limit's has no line: it returns RetryIn.
func (g *Gate) Ticket(ctx context.Context, refused Admission) (time.Duration, error) {
	scopes := g.scopes(refused.Route)
	if refused.scope == 0 || refused.scope > len(scopes) {
		return refused.RetryIn, nil
	}
	s := scopes[refused.scope-1]
	reply, err := ticketScript.Run(ctx, g.client, []string{g.keys.Limits(s.Account, s.Endpoint, s.Model)},
		refused.rank, refused.RetryIn.Microseconds(), refused.slot.Microseconds()).Int64Slice()
	if err != nil {
		return 0, fmt.Errorf("take a ticket for %s of %s: ask Redis: %w", refused.Reason, s, err)
	}
	if len(reply) != 1 {
		return 0, fmt.Errorf("take a ticket for %s of %s: %w (%d values)", refused.Reason, s, errReply, len(reply))
	}
	return max(0, time.Duration(reply[0])*time.Millisecond-min(max(horizon, 2*refused.slot), longestWait)/2), nil
}

var errReply = errors.New("unexpected reply of the script; do all workers run the same build?")

// parseAdmissions reads {generation, cause, one for each call}.
func parseAdmissions(reply []any, asks, scopes int) ([]Admission, error) {
	if len(reply) != asks+2 {
		return nil, fmt.Errorf("%w (%d values)", errReply, len(reply))
	}
	generation, ok1 := reply[0].(int64)
	cause, ok2 := reply[1].(string)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%w (%v)", errReply, reply)
	}
	admissions := make([]Admission, asks)
	for i, one := range reply[2:] {
		admission, err := parseAdmission(one, scopes)
		if err != nil {
			return nil, err
		}
		admission.Generation = generation
		if admission.Reason == ReasonBreakerOpen || admission.Reason == ReasonProbeOut {
			admission.Cause = cause
		}
		admissions[i] = admission
	}
	return admissions, nil
}

// parseAdmission reads 0 or {wait_ms, reason, scope, probe 0|1} of a grant, {reason, wait_ms, scope, ticket_ms, slot_us}
// of a refusal.
func parseAdmission(reply any, scopes int) (Admission, error) {
	if wait, atOnce := reply.(int64); atOnce && wait == 0 {
		return Admission{Granted: true}, nil
	}
	values, _ := reply.([]any)
	switch len(values) {
	case 4:
		wait, ok1 := values[0].(int64)
		reason, ok2 := values[1].(string)
		scope, ok3 := values[2].(int64)
		probe, ok4 := values[3].(int64)
		if ok1 && ok2 && ok3 && ok4 && (reason == "") == (wait == 0) && scope >= 0 && int(scope) <= scopes {
			return Admission{
				Granted: true, Reason: Reason(reason), StartIn: time.Duration(wait) * time.Millisecond, scope: int(scope), Probe: probe == 1,
			}, nil
		}
	case 5:
		reason, ok1 := values[0].(string)
		wait, ok2 := values[1].(int64)
		scope, ok3 := values[2].(int64)
		ticket, ok4 := values[3].(int64)
		slot, ok5 := values[4].(int64)
		if ok1 && ok2 && ok3 && ok4 && ok5 && reason != "" && scope >= 0 && int(scope) <= scopes {
			return Admission{
				Reason: Reason(reason), RetryIn: time.Duration(wait) * time.Millisecond, TicketIn: time.Duration(ticket) * time.Millisecond,
				scope: int(scope), slot: time.Duration(slot) * time.Microsecond,
			}, nil
		}
	}
	return Admission{}, fmt.Errorf("%w (%v)", errReply, reply)
}
