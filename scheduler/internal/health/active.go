package health

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// publishActive publishes which endpoint each tier asks first, where that has changed.
func (c *Clock) publishActive(ctx context.Context) error {
	states, err := c.gate.Endpoints(ctx, c.endpoints)
	if err != nil {
		return err
	}
	healths, err := c.gate.Health(ctx, c.endpoints)
	if err != nil {
		return err
	}
	if c.published == nil { // what the leader before this one has published
		if c.published, err = gate.ReadActive(ctx, c.config.Redis, c.config.Keys); err != nil {
			c.published = []gate.Active{} // another version's; it is replaced
		}
	}
	seen := view{catalog: c.config.Catalog, states: map[string]gate.EndpointState{}, healths: map[string]gate.Health{}}
	for i, endpoint := range c.endpoints {
		seen.states[endpoint.Name], seen.healths[endpoint.Name] = states[i], healths[i]
	}
	now := seen.active(c.published, time.Now().UTC().Truncate(time.Millisecond))
	if slices.Equal(now, c.published) {
		if stands, err := gate.ConfirmActive(ctx, c.config.Redis, c.config.Keys); err != nil || stands {
			return err
		}
	}
	if err := gate.PublishActive(ctx, c.config.Redis, c.config.Keys, now); err != nil {
		return err
	}
	c.tell(now)
	c.published = now
	return nil
}

// tell writes a line for every tier whose active endpoint has changed.
func (c *Clock) tell(now []gate.Active) {
	for _, active := range now {
		at := slices.IndexFunc(c.published, func(before gate.Active) bool { return before.Tier == active.Tier })
		if at >= 0 && c.published[at].Endpoint != active.Endpoint {
			c.config.Log.Info().Str("tier", active.Tier).Str("model", active.Model).Str("endpoint", active.Endpoint).
				Str("before", c.published[at].Endpoint).Msg("the tier's active endpoint has changed")
		}
	}
}

// view is what was seen of all endpoints at one time.
type view struct {
	catalog *catalog.Catalog
	states  map[string]gate.EndpointState
	healths map[string]gate.Health
}

// active is the active endpoint of each tier, in the order of their names. Since is that of before where nothing but
// the latency has changed.
func (v view) active(before []gate.Active, now time.Time) []gate.Active {
	var tiers []gate.Active
	for _, tier := range v.catalog.Tiers {
		active := gate.Active{Tier: tier.Name, Model: tier.Models[0], Since: now}
		if endpoint := v.first(active.Model); endpoint != nil {
			active.Endpoint, active.Region = endpoint.Name, endpoint.Region
			active.LatencyMS = float64(v.healths[endpoint.Name].Latency.Microseconds()) / 1000
		}
		for _, known := range before {
			if known.Tier == active.Tier && known.Model == active.Model && known.Endpoint == active.Endpoint {
				active.Since = known.Since
			}
		}
		tiers = append(tiers, active)
	}
	slices.SortFunc(tiers, func(a, b gate.Active) int { return strings.Compare(a.Tier, b.Tier) })
	return tiers
}

// first is the endpoint that a model is asked for first: one whose breaker is closed, or else one that a call may probe.
func (v view) first(model string) *catalog.Endpoint {
	order := v.catalog.Order(model, func(endpoint string) bool { return v.healths[endpoint].Behind })
	for _, state := range []gate.State{gate.StateClosed, gate.StateHalfOpen} {
		for _, endpoint := range order {
			if v.states[endpoint.Name].State == state {
				return endpoint
			}
		}
	}
	return nil
}
