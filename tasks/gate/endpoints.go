package gate

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// State is a breaker's.
type State string

// The states of a breaker.
const (
	StateClosed State = "closed"
	// StateOpen lets nothing through until its recovery time has passed.
	StateOpen State = "open"
	// StateHalfOpen is an open breaker whose recovery time has passed: it lets one probe through at a time.
	StateHalfOpen State = "half-open"
)

// Endpoint names an endpoint of an account.
type Endpoint struct {
	Account, Name string
}

// EndpointState is what the gate knows of an endpoint. The counts are those since the beginning, of the whole fleet.
type EndpointState struct {
	Endpoint Endpoint
	State    State
	// Until is when an open breaker lets its first probe through, by the clock of Redis. Zero when closed.
	Until time.Time
	// ProbeUntil is when the lease of the probe that is out ends, by the clock of Redis. Zero when none is out.
	ProbeUntil time.Time
	// Cause is the class of the failure that opened the breaker. Empty when closed, and after one opened by hand.
	Cause string
	// RampUntil is when everything is admitted again after a recovery, by the clock of Redis. Zero without a ramp.
	RampUntil time.Time
	// Generation counts the changes of the state.
	Generation int64
	// Forced tells that somebody made the state by hand (Open, Close), and that nothing has changed it since.
	Forced bool
	// ConsecutiveFailures and ConsecutiveSuccesses are those up to now; late reports are not among them.
	ConsecutiveFailures, ConsecutiveSuccesses int64
	// Latency is the moving average (0.7 old, 0.3 new) of the successes. Zero before the first.
	Latency time.Duration
	// Calls are all that were settled but released ones; those neither in Successes nor in Failures said nothing about
	// the endpoint.
	Calls, Successes, Failures int64
	// Trips counts how often the breaker opened, Probes the leases given out, Reopenings the probes that failed and
	// Recoveries those that closed the breaker.
	Trips, Probes, Reopenings, Recoveries int64
}

// stateFields are the fields that a breaker is read from.
var stateFields = []string{
	"state", "until_ms", "probe", "probe_until_ms", "generation", "consecutive_failures", "consecutive_successes",
	"latency_us", "calls", "successes", "failures", "trips", "probes", "reopenings", "recoveries", "forced_generation",
	"cause", "ramp_until_ms",
}

// Endpoints reads the breakers of the endpoints, in their order, in one round trip. An endpoint that was never called
// is closed.
func (g *Gate) Endpoints(ctx context.Context, endpoints []Endpoint) ([]EndpointState, error) {
	pipe := g.client.Pipeline()
	clock := pipe.Time(ctx)
	reads := make([]*redis.SliceCmd, len(endpoints))
	for i, endpoint := range endpoints {
		reads[i] = pipe.HMGet(ctx, g.keys.Endpoint(endpoint.Account, endpoint.Name), stateFields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the breakers of %d endpoints from Redis: %w", len(endpoints), err)
	}
	states := make([]EndpointState, len(endpoints))
	for i, endpoint := range endpoints {
		state, err := parseEndpoint(reads[i].Val(), clock.Val())
		if err != nil {
			return nil, fmt.Errorf("read the breaker of endpoint %s: %w", endpoint.Name, err)
		}
		state.Endpoint = endpoint
		states[i] = state
	}
	return states, nil
}

// parseEndpoint reads the values of stateFields as they look at the time now.
func parseEndpoint(values []any, now time.Time) (EndpointState, error) {
	if len(values) != len(stateFields) {
		return EndpointState{}, fmt.Errorf("got %d fields instead of %d", len(values), len(stateFields))
	}
	texts, numbers := map[string]string{}, map[string]int64{}
	for i, field := range stateFields {
		text, _ := values[i].(string)
		if field == "state" || field == "probe" || field == "cause" || text == "" {
			texts[field] = text
			continue
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return EndpointState{}, fmt.Errorf("field %s holds %q, not a whole number", field, text)
		}
		numbers[field] = number
	}
	state := EndpointState{
		State: StateClosed, Generation: numbers["generation"],
		Forced:              numbers["generation"] > 0 && numbers["forced_generation"] == numbers["generation"],
		ConsecutiveFailures: numbers["consecutive_failures"], ConsecutiveSuccesses: numbers["consecutive_successes"],
		Latency: time.Duration(numbers["latency_us"]) * time.Microsecond,
		Calls:   numbers["calls"], Successes: numbers["successes"], Failures: numbers["failures"],
		Trips: numbers["trips"], Probes: numbers["probes"],
		Reopenings: numbers["reopenings"], Recoveries: numbers["recoveries"],
	}
	if texts["state"] == string(StateOpen) {
		state.Until, state.State = time.UnixMilli(numbers["until_ms"]), StateOpen
		state.Cause = texts["cause"]
		if !now.Before(state.Until) {
			state.State = StateHalfOpen
		}
	}
	if until := time.UnixMilli(numbers["ramp_until_ms"]); now.Before(until) {
		state.RampUntil = until
	}
	if until := time.UnixMilli(numbers["probe_until_ms"]); texts["probe"] != "" && now.Before(until) {
		state.ProbeUntil = until
	}
	return state, nil
}
