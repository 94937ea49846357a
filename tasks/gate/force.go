package gate

import (
	"context"
	_ "embed" // for the script
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed force.lua
	forceSource string
	forceScript = redis.NewScript(forceSource)
)

// Open opens an endpoint's breaker by hand, for the whole fleet and at once; calls that are out finish. After the
// period it is half-open, like one that opened by itself: the next attempt probes it. An open breaker gets the new
// period, though it be shorter. A period of 0 is the settings' LongRecovery.
//
// Nothing is counted as a trip, and what calls report that were admitted before changes no state; a probe that is out
// has lost its lease. Changed tells that the breaker was closed.
func (g *Gate) Open(ctx context.Context, endpoint Endpoint, period time.Duration) (changed bool, err error) {
	if period == 0 {
		period = g.settings.LongRecovery
	}
	if period < time.Millisecond {
		return false, fmt.Errorf("open the breaker of endpoint %s: the period must be at least 1ms, got %s", endpoint.Name, period)
	}
	return g.force(ctx, endpoint, StateOpen, period)
}

// Close closes an endpoint's breaker by hand, without a probe. The failures in a row stay counted: where they were
// enough to open it, one more opens it again, and the first success ends them. Otherwise as Open. Changed tells that
// the breaker was open.
func (g *Gate) Close(ctx context.Context, endpoint Endpoint) (changed bool, err error) {
	return g.force(ctx, endpoint, StateClosed, 0)
}

// force may be repeated after a broken connection: it only makes one generation more.
func (g *Gate) force(ctx context.Context, endpoint Endpoint, state State, period time.Duration) (bool, error) {
	reply, err := forceScript.Run(ctx, g.client, []string{g.keys.Endpoint(endpoint.Account, endpoint.Name)},
		string(state), milliseconds(period)).Slice()
	if err != nil {
		return false, fmt.Errorf("set the breaker of endpoint %s to %s: ask Redis: %w", endpoint.Name, state, err)
	}
	before, err := parseForced(reply)
	if err != nil {
		return false, fmt.Errorf("set the breaker of endpoint %s to %s: %w", endpoint.Name, state, err)
	}
	return before != state, nil
}

// parseForced reads {state before, generation}.
func parseForced(reply []any) (State, error) {
	if len(reply) != 2 {
		return "", fmt.Errorf("%w (%d values)", errReply, len(reply))
	}
	before, ok1 := reply[0].(string)
	_, ok2 := reply[1].(int64)
	if !ok1 || !ok2 || (State(before) != StateOpen && State(before) != StateClosed) {
		return "", fmt.Errorf("%w (%v)", errReply, reply)
	}
	return State(before), nil
}
