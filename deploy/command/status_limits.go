package command

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// limitStatus is how much of a limit is used: of one per minute what was called for in the last whole minute.
type limitStatus struct {
	// Name is what is limited and by whom, such as "requests of account acme, model large".
	Name  string `json:"name"`
	Used  int64  `json:"used"`
	Limit int64  `json:"limit"`
	// Per is "minute"; absent for calls at a time.
	Per string `json:"per,omitempty"`
}

// readLimits reads the use of all limits, and says it to each endpoint that they hold for.
func readLimits(ctx context.Context, d deployment, keys keyspace.Keyspace, endpoints []endpointStatus) error {
	byEndpoint, all := limitScopes(d.catalog)
	if len(all) == 0 {
		return nil
	}
	uses, err := activity.Minute(ctx, d.client, keys, time.Now())
	if err != nil {
		return err
	}
	out, err := gate.New(d.client, keys, d.catalog).PermitsOut(ctx, all)
	if err != nil {
		return err
	}
	shown := make(map[catalog.LimitScope][]limitStatus, len(all))
	for i, scope := range all {
		shown[scope] = limitsOf(d.catalog, scope, uses, out[i])
	}
	for i := range endpoints {
		for _, scope := range byEndpoint[endpoints[i].Endpoint] {
			endpoints[i].Limits = append(endpoints[i].Limits, shown[scope]...)
		}
	}
	return nil
}

// limitScopes are those of each endpoint, and all of them once.
func limitScopes(c *catalog.Catalog) (map[string][]catalog.LimitScope, []catalog.LimitScope) {
	byEndpoint, seen, all := map[string][]catalog.LimitScope{}, map[catalog.LimitScope]bool{}, []catalog.LimitScope{}
	for _, model := range slices.Sorted(maps.Keys(c.Models)) {
		for _, endpoint := range c.EndpointsFor(model) {
			for _, scope := range c.LimitsFor(endpoint, model) {
				if !slices.Contains(byEndpoint[endpoint.Name], scope) {
					byEndpoint[endpoint.Name] = append(byEndpoint[endpoint.Name], scope)
				}
				if !seen[scope] {
					seen[scope], all = true, append(all, scope)
				}
			}
		}
	}
	return byEndpoint, all
}

// limitsOf are the limits of a scope, and what all routes within it used of them.
func limitsOf(c *catalog.Catalog, scope catalog.LimitScope, uses map[activity.Route]activity.Use, out int64) []limitStatus {
	var used activity.Use
	for route, use := range uses {
		endpoint := c.Endpoints[route.Endpoint]
		if endpoint == nil || endpoint.Account != scope.Account || scope.Endpoint != "" && scope.Endpoint != route.Endpoint ||
			scope.Model != "" && scope.Model != route.Model {
			continue
		}
		used.Calls, used.Tokens = used.Calls+use.Calls, used.Tokens+use.Tokens
	}
	var limits []limitStatus
	add := func(what string, used int64, limit int, per string) {
		if limit > 0 {
			limits = append(limits, limitStatus{Name: what + " of " + scope.String(), Used: used, Limit: int64(limit), Per: per})
		}
	}
	add("requests", used.Calls, scope.Limits.RequestsPerMinute, "minute")
	add("tokens", used.Tokens, scope.Limits.TokensPerMinute, "minute")
	add("calls at a time", out, scope.Limits.Concurrency, "")
	return limits
}
