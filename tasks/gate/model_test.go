package gate

import (
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// fleet is the gate in plain Go: what any number of workers on one Redis must see. Its clock starts at 0.
type fleet struct {
	now       time.Duration
	settings  catalog.Breaker
	breakers  map[Endpoint]*breaker
	cooldowns map[Endpoint]time.Duration // by account and model
	notServed map[Route]time.Duration
	settled   map[string]bool
}

// breaker is one endpoint's. An open one admits the holder of the lease, from its time on.
type breaker struct {
	open       bool
	until      time.Duration
	generation int64
	forced     int64 // the generation last made by hand

	holder     string
	leaseUntil time.Duration

	doubled int64 // probes that failed since it opened

	rampUntil           time.Duration
	rampStage, rampUsed int64

	state EndpointState // the counts only
}

func newFleet(settings catalog.Breaker) *fleet {
	return &fleet{
		settings: settings, breakers: map[Endpoint]*breaker{}, cooldowns: map[Endpoint]time.Duration{},
		notServed: map[Route]time.Duration{}, settled: map[string]bool{},
	}
}

func (f *fleet) breaker(account, endpoint string) *breaker {
	name := Endpoint{Account: account, Name: endpoint}
	if f.breakers[name] == nil {
		f.breakers[name] = &breaker{}
	}
	return f.breakers[name]
}

// refusals are all that stands against a call, and until when.
func (f *fleet) refusals(route Route, token string) map[Reason]time.Duration {
	b := f.breaker(route.Account, route.Endpoint)
	refusals := map[Reason]time.Duration{}
	refusals[ReasonNotServed] = f.notServed[route]
	refusals[ReasonCooldown] = f.cooldowns[Endpoint{Account: route.Account, Name: route.Model}]
	if b.open {
		refusals[ReasonBreakerOpen] = b.until
		if b.holder != token {
			refusals[ReasonProbeOut] = b.leaseUntil
		}
	} else if b.rampUntil > f.now {
		stage, eighth := f.rampStage(b)
		if stage == b.rampStage && b.rampUsed >= 1<<stage {
			refusals[ReasonRamp] = b.rampUntil - time.Duration(7-stage)*eighth
		}
	}
	return refusals
}

// rampStage is the eighth of its ramp that a breaker is in, and how long that is.
func (f *fleet) rampStage(b *breaker) (int64, time.Duration) {
	eighth := *f.settings.Ramp / 8
	return int64((f.now - (b.rampUntil - *f.settings.Ramp)) / eighth), eighth
}

func (f *fleet) admit(route Route, token string, lease time.Duration) Admission {
	b, refusals := f.breaker(route.Account, route.Endpoint), f.refusals(route, token)
	answer := Admission{Route: route, Token: token, Generation: b.generation}
	// Of two that end together the first of these is given.
	for _, reason := range []Reason{ReasonNotServed, ReasonBreakerOpen, ReasonProbeOut, ReasonRamp, ReasonCooldown} {
		if wait := refusals[reason] - f.now; wait > answer.RetryIn {
			answer.Reason, answer.RetryIn = reason, wait
		}
	}
	if answer.Reason != "" {
		return answer
	}
	answer.Granted, answer.Probe = true, b.open
	if b.rampUntil > f.now {
		if stage, _ := f.rampStage(b); stage != b.rampStage {
			b.rampStage, b.rampUsed = stage, 0
		}
		b.rampUsed++
	}
	if b.open && (b.holder != token || b.leaseUntil <= f.now) {
		b.holder, b.leaseUntil = token, f.now+lease
		b.state.Probes++
	}
	return answer
}

func (f *fleet) settle(o Outcome) Transition {
	b := f.breaker(o.Route.Account, o.Route.Endpoint)
	holds := b.holder == o.Token
	if f.settled[o.Token] {
		return Transition{Generation: b.generation, Duplicate: true}
	}
	f.settled[o.Token] = true
	if holds {
		b.holder, b.leaseUntil = "", 0
	}
	if o.Effect == Release {
		return Transition{Generation: b.generation}
	}
	b.state.Calls++
	answer := Transition{Late: o.Generation != b.generation || b.open && !holds}
	switch o.Effect {
	case Success:
		answer.Change = f.succeed(b, answer.Late, o.Latency)
	case Failure:
		answer.Change = f.fail(b, o, answer.Late, f.settings.Failures, f.settings.Recovery)
	case Trip, TripAccount:
		answer.Change = f.fail(b, o, answer.Late, 1, f.settings.LongRecovery)
		if o.Effect == TripAccount && !answer.Late {
			answer.OthersOpened = f.openOthers(o, f.until(o, f.settings.LongRecovery))
		}
	case Throttle:
		model := Endpoint{Account: o.Route.Account, Name: o.Route.Model}
		f.cooldowns[model] = max(f.cooldowns[model], f.until(o, f.settings.Cooldown))
	case NotServed:
		f.notServed[o.Route] = max(f.notServed[o.Route], f.until(o, f.settings.NotServed))
	case Ignore, Release:
	}
	answer.Generation = b.generation
	return answer
}

func (f *fleet) force(endpoint Endpoint, open bool, period time.Duration) (changed bool) {
	b := f.breaker(endpoint.Account, endpoint.Name)
	changed = b.open != open
	b.generation++
	b.forced = b.generation
	b.open, b.until, b.holder, b.leaseUntil, b.doubled = open, 0, "", 0, 0
	b.rampUntil, b.rampStage, b.rampUsed = 0, 0, 0
	if open {
		b.until = f.now + period
	}
	return changed
}

func (f *fleet) until(o Outcome, ordinarily time.Duration) time.Duration {
	if o.For > 0 {
		return f.now + o.For
	}
	return f.now + ordinarily
}

func (f *fleet) succeed(b *breaker, late bool, latency time.Duration) Change {
	b.state.Successes++
	if b.state.Successes == 1 {
		b.state.Latency = latency
	} else {
		b.state.Latency = (7*b.state.Latency + 3*latency + 5*time.Microsecond) / 10
		b.state.Latency = b.state.Latency.Truncate(time.Microsecond)
	}
	if late {
		return Unchanged
	}
	b.state.ConsecutiveFailures = 0
	b.state.ConsecutiveSuccesses++
	if !b.open {
		return Unchanged
	}
	b.open, b.until, b.doubled = false, 0, 0
	b.rampStage, b.rampUsed = 0, 0
	if *f.settings.Ramp > 0 {
		b.rampUntil = f.now + *f.settings.Ramp
	}
	b.generation++
	b.state.Recoveries++
	return Closed
}

func (f *fleet) fail(b *breaker, o Outcome, late bool, threshold int, period time.Duration) Change {
	b.state.Failures++
	if late {
		return Unchanged
	}
	b.state.ConsecutiveSuccesses = 0
	b.state.ConsecutiveFailures++
	change := Opened
	switch {
	case b.open:
		change = Reopened
		b.state.Reopenings++
		b.doubled++
		period = max(period, min(period<<min(b.doubled, 10), f.settings.RecoveryMax))
	case b.state.ConsecutiveFailures < int64(threshold):
		return Unchanged
	default:
		b.state.Trips++
		b.doubled = 0
	}
	b.open, b.until = true, f.until(o, period)
	b.rampUntil, b.rampStage, b.rampUsed = 0, 0, 0
	b.generation++
	return change
}

func (f *fleet) openOthers(o Outcome, until time.Duration) (opened []string) {
	for _, name := range o.AccountEndpoints {
		other := f.breaker(o.Route.Account, name)
		if name == o.Route.Endpoint {
			continue
		}
		if !other.open {
			other.open, other.rampUntil = true, 0
			other.state.Trips++
			opened = append(opened, name)
		}
		other.until = max(other.until, until)
		other.generation++
	}
	return opened
}

// stored is the breaker as its hash holds it, without the times. Fields that hold nothing are left out.
func (b *breaker) stored() map[string]string {
	fields := map[string]string{}
	for field, value := range map[string]int64{
		"ramp_stage": b.rampStage, "ramp_used": b.rampUsed,
		"generation": b.generation, "forced_generation": b.forced, "doubled": b.doubled, "calls": b.state.Calls, "successes": b.state.Successes, "failures": b.state.Failures,
		"consecutive_failures": b.state.ConsecutiveFailures, "consecutive_successes": b.state.ConsecutiveSuccesses,
		"trips": b.state.Trips, "probes": b.state.Probes, "reopenings": b.state.Reopenings,
		"recoveries": b.state.Recoveries, "latency_us": b.state.Latency.Microseconds(),
	} {
		if value != 0 {
			fields[field] = strconv.FormatInt(value, 10)
		}
	}
	if b.open {
		fields["state"] = "open"
	}
	if b.holder != "" {
		fields["probe"] = b.holder
	}
	return fields
}
