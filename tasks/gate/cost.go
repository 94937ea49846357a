package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
)

// Cost is what the calls of one kind cost on one day.
type Cost struct {
	Day                               string
	TaskType, Model, Endpoint, Tenant string
	Calls                             int64
	// Nanos is in billionths of a US dollar, with what may have been billed, at its worst.
	Nanos int64
	// Usage is what the providers counted.
	Usage tasks.Usage
	// MaybeBilled counts the calls of which it is not known whether they were billed; MaybeNanos is their part of Nanos.
	MaybeBilled, MaybeNanos int64
}

// ScopeState is how a scope stands on a day, in billionths of a US dollar.
type ScopeState struct {
	Scope Scope
	// Limit is the settings'. Limited is false where there is none.
	Limit       int64
	Limited     bool
	Spent, Held int64
	// Refused tells that a call of the day had no room.
	Refused bool
}

// Costs reads what the calls of some days cost, in the order of the days and then of the entries. The tenant `*` stands
// for those beyond the first thousand entries of a day.
func (b *Budget) Costs(ctx context.Context, days []string) ([]Cost, error) {
	pipe := b.client.Pipeline()
	reads := make([]*redis.MapStringStringCmd, len(days))
	for i, day := range days {
		reads[i] = pipe.HGetAll(ctx, b.keys.BudgetCost(day))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the cost of %d days from Redis: %w", len(days), err)
	}
	var costs []Cost
	for i, day := range days {
		entries := reads[i].Val()
		for _, name := range sortedKeys(entries) {
			cost, err := parseCost(name, entries[name])
			if err != nil {
				return nil, fmt.Errorf("read the cost of %s from Redis: %w", day, err)
			}
			cost.Day = day
			costs = append(costs, cost)
		}
	}
	return costs, nil
}

func sortedKeys(values map[string]string) []string {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func parseCost(name, value string) (Cost, error) {
	words, numbers := strings.Split(name, " "), strings.Split(value, " ")
	if len(words) != 4 || len(numbers) != 6 {
		return Cost{}, fmt.Errorf("%w (%q: %q)", errReply, name, value)
	}
	var sums [6]int64
	for i, text := range numbers {
		var err error
		if sums[i], err = parseAmount(text); err != nil {
			return Cost{}, err
		}
	}
	usage := tasks.Usage{PromptTokens: int(sums[2]), CompletionTokens: int(sums[3]), TotalTokens: int(sums[2] + sums[3])}
	return Cost{
		TaskType: words[0], Model: words[1], Endpoint: words[2], Tenant: words[3], Calls: sums[0], Nanos: sums[1],
		Usage: usage, MaybeBilled: sums[4], MaybeNanos: sums[5],
	}, nil
}

// Scopes reads how all scopes with a limit, and ScopeAll, stand on a day.
func (b *Budget) Scopes(ctx context.Context, day string) ([]ScopeState, error) {
	fields, err := b.client.HGetAll(ctx, b.keys.BudgetDay(day)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the budget of %s from Redis: %w", day, err)
	}
	names := []Scope{ScopeAll}
	for scope := range b.limits {
		if scope != ScopeAll {
			names = append(names, scope)
		}
	}
	slices.Sort(names) // all, tenant:..., type:...
	states := make([]ScopeState, len(names))
	for i, scope := range names {
		state := ScopeState{Scope: scope}
		state.Limit, state.Limited = b.Limit(scope)
		for field, into := range map[string]*int64{"spent:": &state.Spent, "held:": &state.Held} {
			if text := fields[field+string(scope)]; text != "" {
				if *into, err = parseAmount(text); err != nil {
					return nil, fmt.Errorf("read the budget of %s from Redis: %w", day, err)
				}
			}
		}
		state.Refused = fields["told:100:"+string(scope)] != ""
		states[i] = state
	}
	return states, nil
}
