package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// endpointStatus is what all workers together know of an endpoint. Its totals are those since the beginning.
type endpointStatus struct {
	Endpoint  string `json:"endpoint"`
	Account   string `json:"account"`
	Region    string `json:"region,omitempty"`
	Priority  int    `json:"priority"`
	Simulated bool   `json:"simulated,omitempty"`
	// State is the breaker's: closed, open or half-open. Forced tells that somebody made it so by hand.
	State  gate.State `json:"state"`
	Forced bool       `json:"forced,omitempty"`
	// Until is when an open breaker lets its first probe through, ProbeUntil when the probe that is out ends.
	Until      *time.Time `json:"until,omitempty"`
	ProbeUntil *time.Time `json:"probe_until,omitempty"`
	// Cause is the class of the failure that opened the breaker. RampUntil is when everything is admitted again after a
	// recovery.
	Cause                string     `json:"cause,omitempty"`
	RampUntil            *time.Time `json:"ramp_until,omitempty"`
	ConsecutiveFailures  int64      `json:"consecutive_failures"`
	ConsecutiveSuccesses int64      `json:"consecutive_successes"`
	LatencyMS            float64    `json:"latency_ms,omitempty"`
	Calls                int64      `json:"calls"`
	Successes            int64      `json:"successes"`
	Failures             int64      `json:"failures"`
	Trips                int64      `json:"trips"`
	Probes               int64      `json:"probes"`
	Reopenings           int64      `json:"reopenings"`
	Recoveries           int64      `json:"recoveries"`
	// Health is absent before the endpoint's first health probe, and where there are none any more.
	Health *healthStatus `json:"health,omitempty"`
	// Limits are those that hold for its calls, the account's among them, absent without any.
	Limits []limitStatus `json:"limits,omitempty"`
}

// readEndpoints reads the breakers and the health of all endpoints of the catalog, by priority and name.
func readEndpoints(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, c *catalog.Catalog) ([]endpointStatus, error) {
	endpoints := slices.SortedFunc(maps.Values(c.Endpoints), func(a, b *catalog.Endpoint) int {
		if a.Priority != b.Priority {
			return a.Priority - b.Priority
		}
		return strings.Compare(a.Name, b.Name)
	})
	names := make([]gate.Endpoint, len(endpoints))
	for i, endpoint := range endpoints {
		names[i] = gate.Endpoint{Account: endpoint.Account, Name: endpoint.Name}
	}
	known := gate.New(client, keys, c)
	states, err := known.Endpoints(ctx, names)
	if err != nil {
		return nil, err
	}
	healths, err := known.Health(ctx, names)
	if err != nil {
		return nil, err
	}
	statuses := make([]endpointStatus, len(endpoints))
	for i, endpoint := range endpoints {
		state := states[i]
		statuses[i] = endpointStatus{
			Endpoint: endpoint.Name, Account: endpoint.Account, Region: endpoint.Region, Priority: endpoint.Priority,
			Simulated: endpoint.Simulated, State: state.State, Forced: state.Forced, Until: timeOrNil(state.Until),
			ProbeUntil: timeOrNil(state.ProbeUntil), Cause: state.Cause, RampUntil: timeOrNil(state.RampUntil),
			ConsecutiveFailures:  state.ConsecutiveFailures,
			ConsecutiveSuccesses: state.ConsecutiveSuccesses,
			LatencyMS:            float64(state.Latency.Microseconds()) / 1000, Calls: state.Calls, Successes: state.Successes,
			Failures: state.Failures, Trips: state.Trips, Probes: state.Probes, Reopenings: state.Reopenings,
			Recoveries: state.Recoveries, Health: newHealthStatus(healths[i]),
		}
	}
	return statuses, nil
}

func timeOrNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}

func printEndpoints(out io.Writer, endpoints []endpointStatus, now time.Time) error {
	list := table(out)
	row(list, "ENDPOINT", "REGION", "ACCOUNT", "BREAKER", "FAILURES", "LATENCY", "CALLS", "OK", "FAILED", "TRIPS", "PROBES", "RECOVERIES")
	for _, e := range endpoints {
		row(list, e.label(), dash(e.Region), e.Account, e.breaker(now), fmt.Sprintf("%d in a row", e.ConsecutiveFailures),
			e.latency(), e.Calls, e.Successes, e.Failures, e.Trips, e.Probes, e.Recoveries)
	}
	return list.Flush()
}

func (e endpointStatus) label() string { return labelled(e.Endpoint, e.Simulated) }

// labelled marks what is simulated wherever it is named.
func labelled(name string, simulated bool) string {
	if simulated {
		return name + " (simulated)"
	}
	return name
}

func (e endpointStatus) latency() string {
	if e.LatencyMS == 0 {
		return "-"
	}
	return brief(time.Duration(e.LatencyMS * float64(time.Millisecond)))
}

// breaker is the state as people read it.
func (e endpointStatus) breaker(now time.Time) string {
	text := string(e.State)
	switch {
	case e.ProbeUntil != nil:
		text = "half-open, probe out"
	case e.State == gate.StateOpen && e.Until != nil:
		text = "open until " + clock(*e.Until, now)
	}
	if e.RampUntil != nil {
		text += ", ramping up"
	}
	switch {
	case e.Forced:
		text += " (by hand)"
	case e.Cause != "":
		text += " (" + e.Cause + ")"
	}
	return text
}
