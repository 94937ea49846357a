package command

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// spendStatus is what today's calls cost.
type spendStatus struct {
	// Day is one of the budget's time zone.
	Day string  `json:"day"`
	USD float64 `json:"usd"`
	// CNY is what the accounts pay for it.
	CNY float64 `json:"cny"`
	// BudgetUSD is what may be spent in all, BudgetCNY the same at the rate that was paid today; null without a limit.
	BudgetUSD *float64 `json:"budget_usd"`
	BudgetCNY *float64 `json:"budget_cny"`
	// MaybeBilledUSD is the part of USD of which nobody knows whether it was billed, at its worst.
	MaybeBilledUSD float64 `json:"maybe_billed_usd"`
	// DearestUSD is what the same tokens would have cost with DearestModels, the dearest of each kind.
	DearestUSD    float64  `json:"dearest_usd"`
	DearestModels []string `json:"dearest_models"`
}

// readSpend reads what today's calls cost, and how today's budget stands.
func readSpend(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, c *catalog.Catalog) (*spendStatus, []scopeStatus, error) {
	cost, err := readCost(ctx, gate.NewBudget(client, keys, c.Budget), c, "", 1, "day")
	if err != nil {
		return nil, nil, err
	}
	spend := &spendStatus{
		Day: cost.To, USD: cost.Total.CostUSD, CNY: cost.Total.CostCNY, MaybeBilledUSD: cost.Total.MaybeUSD,
		DearestUSD: cost.Total.DearestUSD, DearestModels: cost.Dearest,
	}
	for _, scope := range cost.Budget {
		if scope.Scope == gate.ScopeAll && scope.LimitUSD != nil {
			rate := c.CNYPerUSD("")
			if spend.USD > 0 {
				rate = spend.CNY / spend.USD
			}
			spend.BudgetUSD, spend.BudgetCNY = scope.LimitUSD, new(*scope.LimitUSD*rate)
		}
	}
	return spend, cost.Budget, nil
}

// tierStatus is what serves a tier.
type tierStatus struct {
	Name string `json:"name"`
	// Active is the endpoint that the next job of the tier asks first, as the leader has published it: empty when all
	// breakers are open, or when nobody leads.
	Active string `json:"active"`
	// Model is the one that it is asked for, Since since when.
	Model string     `json:"model,omitempty"`
	Since *time.Time `json:"since,omitempty"`
	// Up is how many of the Total endpoints that serve a model of the tier have a closed breaker.
	Up    int `json:"up"`
	Total int `json:"total"`
}

// readTiers reads which endpoint each tier asks first, in the order of the configuration.
func readTiers(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, c *catalog.Catalog, endpoints []endpointStatus) ([]tierStatus, error) {
	published, err := gate.ReadActive(ctx, client, keys)
	if err != nil {
		return nil, err
	}
	active, closed := map[string]gate.Active{}, map[string]bool{}
	for _, a := range published {
		active[a.Tier] = a
	}
	for _, e := range endpoints {
		closed[e.Endpoint] = e.State == gate.StateClosed
	}
	tiers := make([]tierStatus, 0, len(c.Tiers))
	for _, tier := range c.Tiers {
		first := active[tier.Name]
		status, seen := tierStatus{Name: tier.Name, Active: first.Endpoint, Model: first.Model, Since: timeOrNil(first.Since)}, map[string]bool{}
		for _, model := range tier.Models {
			for _, endpoint := range c.EndpointsFor(model) {
				if seen[endpoint.Name] {
					continue
				}
				seen[endpoint.Name] = true
				if status.Total++; closed[endpoint.Name] {
					status.Up++
				}
			}
		}
		tiers = append(tiers, status)
	}
	return tiers, nil
}
