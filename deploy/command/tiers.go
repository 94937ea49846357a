package command

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// tierStatus is how a tier stands.
type tierStatus struct {
	Name string `json:"name"`
	// Active is the endpoint that the tier asks first, Model with which model, and Since since when, as the leader has
	// published it; empty without one, and while all its breakers are open.
	Active string     `json:"active,omitempty"`
	Model  string     `json:"model,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
	// Up of the Total endpoints that serve a model of the tier have a closed breaker.
	Up    int `json:"up"`
	Total int `json:"total"`
}

// readTiers reads how the tiers stand, in the order of the configuration.
func readTiers(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, c *catalog.Catalog, endpoints []endpointStatus) ([]tierStatus, error) {
	published, err := gate.ReadActive(ctx, client, keys)
	if err != nil {
		return nil, err
	}
	tiers := make([]tierStatus, len(c.Tiers))
	for i, tier := range c.Tiers {
		tiers[i].Name = tier.Name
		if at := slices.IndexFunc(published, func(a gate.Active) bool { return a.Tier == tier.Name }); at >= 0 {
			tiers[i].Active, tiers[i].Model, tiers[i].Since = published[at].Endpoint, published[at].Model, timeOrNil(published[at].Since)
		}
		for _, endpoint := range endpoints {
			serves := slices.ContainsFunc(tier.Models, func(model string) bool {
				return slices.ContainsFunc(c.EndpointsFor(model), func(e *catalog.Endpoint) bool { return e.Name == endpoint.Endpoint })
			})
			if !serves {
				continue
			}
			if tiers[i].Total++; endpoint.State == gate.StateClosed {
				tiers[i].Up++
			}
		}
	}
	return tiers, nil
}

// spendStatus is what the calls of today cost.
type spendStatus struct {
	Day string  `json:"day"`
	USD float64 `json:"usd"`
	// CNY is by what each account pays for a dollar; null amounts are unknown.
	CNY float64 `json:"cny"`
	// MaybeUSD is the part of USD that may not have been billed.
	MaybeUSD  float64  `json:"maybe_billed_usd"`
	BudgetUSD *float64 `json:"budget_usd"`
	// BudgetCNY is the budget at what a dollar has cost on average today, or at the least rate before anything was spent.
	BudgetCNY *float64 `json:"budget_cny"`
	// DearestUSD is what the same tokens would have cost with the dearest model of their kind.
	DearestUSD    float64  `json:"dearest_usd"`
	DearestModels []string `json:"dearest_models"`
}

func readSpend(ctx context.Context, budget *gate.Budget, c *catalog.Catalog) (*spendStatus, []scopeStatus, error) {
	cost, err := readCost(ctx, budget, c, "", 1, "day")
	if err != nil {
		return nil, nil, err
	}
	spend := &spendStatus{
		Day: cost.To, USD: cost.Total.CostUSD, CNY: cost.Total.CostCNY, MaybeUSD: cost.Total.MaybeUSD, DearestUSD: cost.Total.DearestUSD,
		DearestModels: cost.Dearest,
	}
	for _, scope := range cost.Budget {
		if scope.Scope == gate.ScopeAll && scope.LimitUSD != nil {
			spend.BudgetUSD = scope.LimitUSD
			spend.BudgetCNY = new(*scope.LimitUSD * yuanPerDollar(spend, c))
		}
	}
	return spend, cost.Budget, nil
}

// yuanPerDollar is what a dollar of credit cost on average today, or will cost at least.
func yuanPerDollar(spend *spendStatus, c *catalog.Catalog) float64 {
	if spend.USD > 0 {
		return spend.CNY / spend.USD
	}
	least := 0.0
	for name := range c.Endpoints {
		if rate := c.CNYPerUSD(name); least == 0 || rate < least {
			least = rate
		}
	}
	return least
}
