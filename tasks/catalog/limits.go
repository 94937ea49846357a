package catalog

import (
	"maps"
	"slices"
)

// Limits are what a provider allows. A zero field is no limit.
type Limits struct {
	// RequestsPerMinute and TokensPerMinute hold for every 60 seconds, wherever they begin. The tokens of a call are
	// those of its prompt and the bound of its answer.
	RequestsPerMinute int `yaml:"requests_per_minute"`
	TokensPerMinute   int `yaml:"tokens_per_minute"`
	// Concurrency is how many calls are out at a time.
	Concurrency int `yaml:"concurrency"`
}

// plans are the limits that a provider's plans have by custom: per account, over all models.
var plans = map[string]Limits{
	"free":       {RequestsPerMinute: 60, TokensPerMinute: 100_000},
	"basic":      {RequestsPerMinute: 500, TokensPerMinute: 500_000},
	"pro":        {RequestsPerMinute: 2_000, TokensPerMinute: 2_000_000},
	"enterprise": {RequestsPerMinute: 10_000, TokensPerMinute: 10_000_000},
}

const maxPerMinute = 1_000_000_000

// planNames are the plans from the smallest.
func planNames() []string {
	return slices.SortedFunc(maps.Keys(plans), func(a, b string) int {
		return plans[a].RequestsPerMinute - plans[b].RequestsPerMinute
	})
}

// LimitScope is what a limit holds for. Endpoint and Model are empty where it holds for all.
type LimitScope struct {
	Account, Endpoint, Model string
	Limits                   Limits
}

// String is the scope as users read it.
func (s LimitScope) String() string {
	text := "account " + s.Account
	if s.Endpoint != "" {
		text = "endpoint " + s.Endpoint
	}
	if s.Model != "" {
		text += ", model " + s.Model
	}
	return text
}

// LimitsFor lists the scopes that limit the calls of a model at an endpoint: its account, the model on the account, the
// endpoint, the model at the endpoint; those without limits are left out. All hold at once.
func (c *Catalog) LimitsFor(endpoint *Endpoint, model string) []LimitScope {
	var scopes []LimitScope
	add := func(limits Limits, name, model string) {
		if limits != (Limits{}) {
			scopes = append(scopes, LimitScope{Account: endpoint.Account, Endpoint: name, Model: model, Limits: limits})
		}
	}
	if account := c.Accounts[endpoint.Account]; account != nil {
		add(account.limits(), "", "")
		add(account.ModelLimits[model], "", model)
	}
	add(endpoint.Limits, endpoint.Name, "")
	add(endpoint.ModelLimits[model], endpoint.Name, model)
	return scopes
}

// LimitsTokens tells whether there is any limit of tokens.
func (c *Catalog) LimitsTokens() bool {
	byModel := func(limits map[string]Limits) bool {
		for _, l := range limits {
			if l.TokensPerMinute > 0 {
				return true
			}
		}
		return false
	}
	for _, account := range c.Accounts {
		if account.limits().TokensPerMinute > 0 || byModel(account.ModelLimits) {
			return true
		}
	}
	for _, endpoint := range c.Endpoints {
		if endpoint.Limits.TokensPerMinute > 0 || byModel(endpoint.ModelLimits) {
			return true
		}
	}
	return false
}

// limits are the account's own, and its plan's where it says nothing.
func (a *Account) limits() Limits {
	limits, plan := a.Limits, plans[a.Plan]
	fill(&limits.RequestsPerMinute, plan.RequestsPerMinute)
	fill(&limits.TokensPerMinute, plan.TokensPerMinute)
	return limits
}

func (v *validation) plan(path []string, plan string) {
	if _, found := plans[plan]; plan != "" && !found {
		v.refuse(below(path, "plan"), "%s", unknown("plan", plan, planNames()))
	}
}

func (v *validation) limits(path []string, limits Limits, byModel map[string]Limits) {
	v.someLimits(below(path, "limits"), limits)
	for _, model := range slices.Sorted(maps.Keys(byModel)) {
		path := below(path, "model_limits", model)
		if _, named := v.catalog.Models[model]; !named {
			v.refuse(path, "%s", unknown("model", model, v.models))
		}
		if byModel[model] == (Limits{}) {
			v.refuse(path, "limits nothing; give requests_per_minute, tokens_per_minute or concurrency")
		}
		v.someLimits(path, byModel[model])
	}
}

// servedLimits refuses what an endpoint says of models that it does not serve.
func (v *validation) servedLimits(path []string, endpoint *Endpoint) {
	for _, model := range slices.Sorted(maps.Keys(endpoint.ModelLimits)) {
		if _, named := v.catalog.Models[model]; named && !endpoint.serves(model) {
			v.refuse(below(path, "model_limits", model), "the endpoint does not serve %s; list it under its models, or remove the limits", model)
		}
	}
}

func (v *validation) someLimits(path []string, limits Limits) {
	v.number(below(path, "requests_per_minute"), limits.RequestsPerMinute, 0, maxPerMinute)
	v.number(below(path, "tokens_per_minute"), limits.TokensPerMinute, 0, maxPerMinute)
	v.number(below(path, "concurrency"), limits.Concurrency, 0, maxPerMinute)
}

// TooLarge finds the limit under which a call of so many tokens could never be made, however long it waits.
func (c *Catalog) TooLarge(endpoint *Endpoint, model string, callTokens int) (LimitScope, bool) {
	for _, scope := range c.LimitsFor(endpoint, model) {
		if limit := scope.Limits.TokensPerMinute; limit > 0 && callTokens > limit {
			return scope, true
		}
	}
	return LimitScope{}, false
}
