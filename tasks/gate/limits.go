package gate

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

const (
	// horizon is how long a call may have to wait for a limit and is admitted all the same, its place being taken:
	// asynq looks at due tasks once a second, and two seconds. At least two slots of the limit.
	horizon = 3 * time.Second
	// longestWait bounds that, however slow the limit: who waits ahead of time has a worker's slot, and nobody sees for
	// what.
	longestWait = 10 * time.Second
	// window is the span that a limit per minute holds for, wherever it begins, by the clock of the provider. The rest
	// is for how much longer one call may be on its way than another.
	window = time.Minute + 500*time.Millisecond
	// burstShare is what may begin at once of a minute's limit: half a second's worth, and one call at least.
	burstShare = 120
	// leastTokenBurst is how many tokens may begin at once at least, unless that is more than a twentieth of the limit:
	// a call of more waits until the clock has stood still for as long as what exceeds the burst takes.
	leastTokenBurst, tokenBurstShare = 4096, 20
)

// growth is what a job's horizon gains in a minute that it has waited, while more urgent work waits too.
const growth = time.Second

// clock is what a limit per minute is to a clock in Redis (GCRA): how far one of it moves the clock, and how far ahead
// the clock may be. The burst and a window's worth of the rate together are the limit, so that no window ever sees more.
type clock struct{ unit, burst float64 } // in us

// requestClock spaces calls so that, after a burst, the one that would pass the limit is a window later.
func requestClock(perMinute int) clock {
	if perMinute == 0 {
		return clock{}
	}
	burst := max(1, perMinute/burstShare)
	unit := float64(window.Microseconds()) / float64(perMinute-burst+1)
	return clock{unit: unit, burst: float64(burst) * unit}
}

func tokenClock(perMinute int) clock {
	if perMinute == 0 {
		return clock{}
	}
	burst := max(1, perMinute/burstShare, min(leastTokenBurst, perMinute/tokenBurstShare))
	unit := float64(window.Microseconds()) / float64(max(1, perMinute-burst))
	return clock{unit: unit, burst: float64(burst) * unit}
}

// scope is a limit scope with its clocks, as scripts take them.
type scope struct {
	catalog.LimitScope
	requests, tokens clock
	keys             [2]string // its clocks, its permits
	args             [5]any    // as scripts take them
}

// known is what is known of a route: the scopes that limit it, and what the scripts take for every call on it. The slices
// have no room, so that whoever appends to them has a copy.
type known struct {
	scopes                []scope
	admitKeys, settleKeys []string
	admitArgs, settleArgs []any
}

func (g *Gate) known(route Route) *known {
	if stored, found := g.routes.Load(route); found {
		return stored.(*known) //nolint:forcetypeassert // nothing else is stored
	}
	k := &known{scopes: g.newScopes(route)}
	endpoint := g.keys.Endpoint(route.Account, route.Endpoint)
	cooldown := g.keys.ModelLimits(route.Account, route.Model)
	notServed := g.keys.EndpointModelLimits(route.Account, route.Endpoint, route.Model)
	k.admitKeys = limitKeys([]string{endpoint, cooldown, notServed}, k.scopes)
	k.settleKeys = limitKeys([]string{
		endpoint, g.keys.EndpointSettled(route.Account, route.Endpoint), cooldown, notServed,
	}, k.scopes)
	b, rates := g.settings, time.Duration(0)
	if b.FailureRate > 0 || b.SlowRate > 0 {
		rates = b.Window
	}
	k.admitArgs = limitArguments([]any{len(k.scopes), milliseconds(*b.Ramp), horizon.Microseconds()}, k.scopes)
	k.settleArgs = limitArguments([]any{
		len(k.scopes), said(k.scopes), b.Failures, remembered, milliseconds(b.RecoveryMax), milliseconds(*b.Ramp),
		milliseconds(rates), b.MinCalls, b.FailureRate, b.SlowCall.Microseconds(), b.SlowRate,
	}, k.scopes)
	g.routes.Store(route, k)
	return k
}

// scopes are those that limit the route; none without a catalog that knows it.
func (g *Gate) scopes(route Route) []scope { return g.known(route).scopes }

func (g *Gate) newScopes(route Route) []scope {
	var scopes []scope
	if endpoint := g.catalog.Endpoints[route.Endpoint]; endpoint != nil {
		for _, limits := range g.catalog.LimitsFor(endpoint, route.Model) {
			scopes = append(scopes, g.newScope(limits))
		}
	}
	return scopes
}

func (g *Gate) newScope(l catalog.LimitScope) scope {
	requests, tokens := requestClock(l.Limits.RequestsPerMinute), tokenClock(l.Limits.TokensPerMinute)
	return scope{
		LimitScope: l, requests: requests, tokens: tokens,
		keys: [2]string{g.keys.Limits(l.Account, l.Endpoint, l.Model), g.keys.Permits(l.Account, l.Endpoint, l.Model)},
		args: [5]any{micros(requests.unit), micros(requests.burst), micros(tokens.unit), micros(tokens.burst), l.Limits.Concurrency},
	}
}

// CountsTokens tells whether a limit of the route counts tokens.
func (g *Gate) CountsTokens(route Route) bool {
	return slices.ContainsFunc(g.scopes(route), func(s scope) bool { return s.tokens.unit > 0 })
}

// limitKeys are the clocks and the permits of each scope.
func limitKeys(keys []string, scopes []scope) []string {
	for i := range scopes {
		keys = append(keys, scopes[i].keys[:]...)
	}
	return slices.Clip(keys)
}

// limitArguments are the five that scripts take of each scope. All are texts, so that they are written but once.
func limitArguments(args []any, scopes []scope) []any {
	for i := range scopes {
		args = append(args, scopes[i].args[:]...)
	}
	for i := range args {
		args[i] = fmt.Sprint(args[i])
	}
	return slices.Clip(args)
}

// micros writes us with as many digits as a script needs: a token of a large limit is a part of one.
func micros(us float64) string { return strconv.FormatFloat(us, 'f', -1, 64) }

// said is the scope that a provider's words about its limits are about: the model's on the account, or the account's;
// from 1, 0 is none.
func said(scopes []scope) int {
	number := 0
	for i, s := range scopes {
		if s.Endpoint == "" {
			number = i + 1
		}
	}
	return number
}

// rests is how long the model rests because the provider says that nothing is left of a limit which no clock knows. A
// Throttle has its own time.
func (k *known) rests(o Outcome) time.Duration {
	var clocks scope
	if number := said(k.scopes); number > 0 {
		clocks = k.scopes[number-1]
	}
	var rests time.Duration
	if o.RemainingRequests == 0 && clocks.requests.unit == 0 {
		rests = o.RequestsReset
	}
	if o.RemainingTokens == 0 && clocks.tokens.unit == 0 {
		rests = max(rests, o.TokensReset)
	}
	if o.Effect == Throttle || o.Effect == Release {
		return 0
	}
	return rests
}

// rank is a priority's place, the most urgent first.
func rank(priority tasks.Priority) int {
	switch priority {
	case tasks.PriorityCritical:
		return 0
	case tasks.PriorityBulk:
		return 2
	case tasks.PriorityDefault:
	}
	return 1
}

// patience is how long a due probe is left to less urgent work: that pays for the test.
func patience(priority tasks.Priority) time.Duration {
	switch priority {
	case tasks.PriorityCritical:
		return 2 * time.Second
	case tasks.PriorityBulk:
		return 0
	case tasks.PriorityDefault:
	}
	return time.Second
}

// grown is what the horizon of a job that has waited so long has grown by.
func grown(waited time.Duration) time.Duration {
	return time.Duration(math.Max(0, float64(waited)/float64(time.Minute)) * float64(growth))
}
