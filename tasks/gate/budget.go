package gate

import (
	"context"
	_ "embed" // for the scripts
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/internal/gather"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var (
	//go:embed hold.lua
	holdSource string
	//go:embed settle_hold.lua
	settleHoldSource string
	//go:embed expired.lua
	expiredSource string

	holdScript       = redis.NewScript(holdSource)
	settleHoldScript = redis.NewScript(settleHoldSource)
	expiredScript    = redis.NewScript(expiredSource)
)

const (
	// ReasonBudget is a call that the budget of the day has no room for.
	ReasonBudget Reason = "budget"

	// budgetTogether bounds the holds that are taken or settled by one script.
	budgetTogether = 64
	// budgetKept is how long the hashes of a day are kept.
	budgetKept = 400 * 24 * time.Hour
	// mostCosts is how many entries the cost of a day has at most.
	mostCosts = 1000
	// nanosPerUSD is the unit of amounts: whole numbers, which Lua counts exactly up to nine million dollars.
	nanosPerUSD = 1e9
	// mostNanos bounds one amount.
	mostNanos = 1e15
)

// Budget holds what calls cost at worst before they are made, and settles what they cost in truth: for all workers
// alike, in Redis. It may be used by any number of goroutines; any number of Budgets with the same keys share one state.
//
// An amount is whole billionths of a US dollar. What limits a call are scopes: `all` jobs together and, where they have
// a limit of their own, its tenant and its task type. The sum of what was spent and what is held in a scope on a day
// never passes its limit, as long as no call costs more than its hold.
type Budget struct {
	client   redis.UniversalClient
	keys     keyspace.Keyspace
	settings catalog.Budget
	limits   map[Scope]int64

	// day is the settings' day of a time on Redis's clock; a test has days of its own.
	day func(time.Time) catalog.Day
	// ahead is by how much Redis's clock is before this process's, as far as it mattered: at the turn of a day.
	ahead atomic.Int64

	holds   *gather.Group[struct{}, HoldRequest, HoldAnswer]
	settles *gather.Group[string, Settlement, bool]
}

// Scope is what a limit holds for: `all`, `tenant:<name>` or `type:<name>`.
type Scope string

// ScopeAll is all jobs together.
const ScopeAll Scope = "all"

// ScopeTenant is the jobs of a tenant.
func ScopeTenant(name string) Scope { return Scope("tenant:" + name) }

// ScopeTaskType is the jobs of a task type.
func ScopeTaskType(name string) Scope { return Scope("type:" + name) }

// String is the scope as users read it: "all jobs", "tenant acme", "task type fast_summary".
func (s Scope) String() string {
	kind, name, _ := strings.Cut(string(s), ":")
	switch kind {
	case "tenant":
		return "tenant " + name
	case "type":
		return "task type " + name
	}
	return "all jobs"
}

// noLimit is how a limit that is turned off goes to Redis.
const noLimit = -1

// NewBudget returns the budget under keys. The client may be a *redis.Client, a *redis.ClusterClient or a
// *redis.AutoPipeliner. The settings are those of a catalog that has passed its Validate.
func NewBudget(client redis.UniversalClient, keys keyspace.Keyspace, settings catalog.Budget) *Budget {
	b := &Budget{client: client, keys: keys, settings: settings, limits: map[Scope]int64{ScopeAll: noLimit}, day: settings.Day}
	if settings.DailyUSD != catalog.Unlimited {
		b.limits[ScopeAll] = Nanos(float64(settings.DailyUSD))
	}
	for name, limit := range settings.Tenants {
		b.limits[ScopeTenant(name)] = Nanos(limit)
	}
	for name, limit := range settings.TaskTypes {
		b.limits[ScopeTaskType(name)] = Nanos(limit)
	}
	b.holds = gather.New(budgetTogether, func(_ struct{}, asked []HoldRequest) ([]HoldAnswer, error) {
		return b.holdAll(context.Background(), asked)
	})
	b.settles = gather.New(budgetTogether, func(day string, settlements []Settlement) ([]bool, error) {
		return b.settleAll(context.Background(), day, settlements)
	})
	return b
}

// Nanos is an amount of US dollars in billionths, rounded up, so that what is held is never too little.
func Nanos(usd float64) int64 {
	const noise = 1e-3 // of the multiplication
	return int64(min(max(math.Ceil(usd*nanosPerUSD-noise), 0), mostNanos))
}

// USD is an amount in US dollars.
func USD(nanos int64) float64 { return float64(nanos) / nanosPerUSD }

// Limit is that of a scope; false where it has none.
func (b *Budget) Limit(scope Scope) (nanos int64, limited bool) {
	nanos, found := b.limits[scope]
	return max(nanos, 0), found && nanos != noLimit
}

// scopes are those of a job's calls, ScopeAll first.
func (b *Budget) scopes(tenant, taskType string) []Scope {
	scopes := append(make([]Scope, 0, 3), ScopeAll)
	for _, scope := range []Scope{ScopeTenant(tenant), ScopeTaskType(taskType)} {
		if _, limited := b.limits[scope]; limited {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// Never is the scope whose whole limit is less than the amount: a call that no day has room for.
func (b *Budget) Never(tenant, taskType string, amount int64) (scope Scope, limit int64, never bool) {
	for _, scope := range b.scopes(tenant, taskType) {
		if limit, limited := b.Limit(scope); limited && amount > limit {
			return scope, limit, true
		}
	}
	return "", 0, false
}

// today is the budget's day by Redis's clock, as far as this process knows it.
func (b *Budget) today() catalog.Day {
	return b.day(time.Now().Add(time.Duration(b.ahead.Load())))
}

// Today is the day that is budgeted now, with its bounds by Redis's clock.
func (b *Budget) Today() catalog.Day { return b.today() }

// table numbers values from 1, as scripts know them.
type table[T comparable] struct {
	values []T
	index  map[T]int
}

func (t *table[T]) number(value T) int {
	if at, known := t.index[value]; known {
		return at
	}
	if t.index == nil {
		t.index = map[T]int{}
	}
	t.values = append(t.values, value)
	t.index[value] = len(t.values)
	return len(t.values)
}

// scopeArguments appends the scopes' names and limits.
func (b *Budget) scopeArguments(args []any, scopes []Scope) []any {
	for _, scope := range scopes {
		limit, found := b.limits[scope]
		if !found {
			limit = noLimit
		}
		args = append(args, string(scope), limit)
	}
	return args
}

// crossing is a threshold that a scope has crossed, first told to us.
type crossing struct {
	percent     int64
	scope       Scope
	spent, held int64
}

// parseCrossings reads {percent, scope, spent, held} for each.
func parseCrossings(value any, scopes []Scope) ([]crossing, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("%w (%v)", errReply, value)
	}
	crossings := make([]crossing, 0, len(list))
	for _, value := range list {
		parts, ok := value.([]any)
		if !ok || len(parts) != 4 {
			return nil, fmt.Errorf("%w (%v)", errReply, value)
		}
		percent, ok1 := parts[0].(int64)
		scope, spent, held, err := parseRoom(parts[1:], scopes)
		if !ok1 || err != nil {
			return nil, fmt.Errorf("%w (%v)", errReply, value)
		}
		crossings = append(crossings, crossing{percent: percent, scope: scope, spent: spent, held: held})
	}
	return crossings, nil
}

// parseRoom reads scope, spent, held.
func parseRoom(parts []any, scopes []Scope) (scope Scope, spent, held int64, err error) {
	if len(parts) != 3 {
		return "", 0, 0, fmt.Errorf("%w (%v)", errReply, parts)
	}
	index, ok := parts[0].(int64)
	if !ok || index < 1 || int(index) > len(scopes) {
		return "", 0, 0, fmt.Errorf("%w (%v)", errReply, parts)
	}
	for i, into := range []*int64{&spent, &held} {
		text, _ := parts[i+1].(string)
		if *into, err = parseAmount(text); err != nil {
			return "", 0, 0, err
		}
	}
	return scopes[index-1], spent, held, nil
}
