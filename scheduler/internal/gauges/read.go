package gauges

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/pauses"
	"github.com/forebay-queue/forebay/tasks/servers"
)

// descs are those of all series, in the order of their definition.
var descs []*prometheus.Desc

func describe(name, help string, labels ...string) *prometheus.Desc {
	desc := prometheus.NewDesc(name, help, labels, nil)
	descs = append(descs, desc)
	return desc
}

var (
	leader      = describe("forebay_leader", "1 in the scheduler that leads, and shows the series of the deployment.")
	queueTasks  = describe("forebay_queue_tasks", "Tasks of a queue by their state; those in lanes of batches are pending.", "queue", "state")
	queueOldest = describe("forebay_queue_oldest_seconds", "For how long the oldest pending task of a queue could have been begun; 0 without one.", "queue")
	queuePaused = describe("forebay_queue_paused", "1 while no call of the queue is begun.", "queue")
	openJobs    = describe("forebay_open_jobs", "Jobs that have not ended.")
	deadJobs    = describe("forebay_dead_jobs", "Jobs that have failed, and wait for somebody to retry or discard them.")
	deadHooks   = describe("forebay_dead_webhooks", "Webhooks that were given up, and wait for somebody to redeliver or discard them.")
	inbox       = describe("forebay_inbox_entries", "Entries of the inbox that were not taken in yet.")

	breakerState = describe("forebay_breaker_state", "The breaker of an endpoint: 0 closed, 1 half-open, 2 open.", "endpoint")
	breakerTrips = describe("forebay_breaker_trips_total", "Times that the breaker of an endpoint has opened.", "endpoint")
	latency      = describe("forebay_endpoint_latency_seconds", "The moving average of an endpoint's good answers.", "endpoint")

	spent = describe("forebay_budget_spent_usd", "What was spent today, in US dollars, in all and by task types that have a limit.", "scope")
	limit = describe("forebay_budget_limit_usd", "What may be spent in a day, in US dollars; absent where there is no limit.", "scope")

	firing = describe("forebay_alerts_firing", "Alerts that fire, by their name.", "alert")

	workers   = describe("forebay_workers", "Workers that are alive.")
	memory    = describe("forebay_redis_memory_bytes", "Memory that a server of Redis uses.", "node")
	maxMemory = describe("forebay_redis_maxmemory_bytes", "The maxmemory of a server of Redis; absent where it has none.", "node")
)

func gauge(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (g *Gauges) queues(ctx context.Context) ([]prometheus.Metric, error) {
	keys := g.config.Store.Keys()
	sums, err := envelope.QueueBacklogs(ctx, g.config.Redis, keys)
	if err != nil {
		return nil, err
	}
	state, err := pauses.New(g.config.Redis, keys).Read(ctx)
	if err != nil {
		return nil, err
	}
	var found []prometheus.Metric
	for name, b := range sums {
		oldest, paused := 0.0, 0.0
		for state, count := range map[string]int64{
			"pending": b.Pending, "active": b.Active, "scheduled": b.Scheduled, "retry": b.Retry, "archived": b.Archived, "completed": b.Completed,
		} {
			found = append(found, gauge(queueTasks, float64(count), name, state))
		}
		if !b.OldestAt.IsZero() {
			oldest = max(0, time.Since(b.OldestAt).Seconds())
		}
		if slices.Contains(state.Queues, name) {
			paused = 1
		}
		found = append(found, gauge(queueOldest, oldest, name), gauge(queuePaused, paused, name))
	}
	return found, nil
}

func (g *Gauges) jobs(ctx context.Context) ([]prometheus.Metric, error) {
	open, err := g.config.Store.Open(ctx)
	if err != nil {
		return nil, err
	}
	jobs, err := g.config.Store.Dead(ctx)
	if err != nil {
		return nil, err
	}
	hooks, err := g.config.Store.DeadWebhooks(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := g.config.Redis.XLen(ctx, g.config.Store.Keys().Inbox()).Result()
	if err != nil {
		return nil, fmt.Errorf("count the entries of the inbox: %w", err)
	}
	return []prometheus.Metric{
		gauge(openJobs, float64(open)), gauge(deadJobs, float64(jobs.Count)), gauge(deadHooks, float64(hooks.Count)), gauge(inbox, float64(entries)),
	}, nil
}

func (g *Gauges) endpoints(ctx context.Context) ([]prometheus.Metric, error) {
	if g.gate == nil {
		return nil, nil
	}
	var asked []gate.Endpoint
	for _, name := range slices.Sorted(maps.Keys(g.catalog.Endpoints)) {
		asked = append(asked, gate.Endpoint{Account: g.catalog.Endpoints[name].Account, Name: name})
	}
	states, err := g.gate.Endpoints(ctx, asked)
	if err != nil {
		return nil, err
	}
	var found []prometheus.Metric
	for _, state := range states {
		name, breaker := state.Endpoint.Name, 0.0
		switch state.State {
		case gate.StateClosed:
		case gate.StateHalfOpen:
			breaker = 1
		case gate.StateOpen:
			breaker = 2
		}
		found = append(found, gauge(breakerState, breaker, name),
			prometheus.MustNewConstMetric(breakerTrips, prometheus.CounterValue, float64(state.Trips), name))
		if state.Latency > 0 {
			found = append(found, gauge(latency, state.Latency.Seconds(), name))
		}
	}
	return found, nil
}

// budgets leaves the tenants out: whoever reads metrics is not to learn of them, and there may be any number.
func (g *Gauges) budgets(ctx context.Context) ([]prometheus.Metric, error) {
	if g.budget == nil {
		return nil, nil
	}
	states, err := g.budget.Scopes(ctx, g.budget.Today().Name)
	if err != nil {
		return nil, err
	}
	var found []prometheus.Metric
	for _, state := range states {
		if scope := string(state.Scope); !strings.HasPrefix(scope, string(gate.ScopeTenant(""))) {
			found = append(found, gauge(spent, gate.USD(state.Spent), scope))
			if state.Limited {
				found = append(found, gauge(limit, gate.USD(state.Limit), scope))
			}
		}
	}
	return found, nil
}

func (g *Gauges) workers(ctx context.Context) ([]prometheus.Metric, error) {
	count, err := g.config.Workers(ctx)
	if err != nil {
		return nil, err
	}
	return []prometheus.Metric{gauge(workers, float64(count))}, nil
}

// alerts counts those that fire, where alerts are judged.
func (g *Gauges) alerts(ctx context.Context) ([]prometheus.Metric, error) {
	if g.catalog == nil {
		return nil, nil
	}
	list, err := alerts.Firing(ctx, g.config.Redis, g.config.Store.Keys())
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, alert := range list {
		counts[alert.Name]++
	}
	var found []prometheus.Metric
	for _, name := range alerts.Names() {
		found = append(found, gauge(firing, float64(counts[name]), name))
	}
	return found, nil
}

// servers shows nothing of a Redis that does not tell, such as the embedded one.
func (g *Gauges) servers(ctx context.Context) ([]prometheus.Metric, error) {
	all, err := servers.Look(ctx, g.config.Redis)
	if err != nil {
		return nil, fmt.Errorf("ask the servers of Redis for their memory: %w", err)
	}
	var found []prometheus.Metric
	for _, server := range all {
		node := cmp.Or(server.Addr, "redis")
		if server.UsedBytes > 0 {
			found = append(found, gauge(memory, float64(server.UsedBytes), node))
		}
		if server.MaxBytes > 0 {
			found = append(found, gauge(maxMemory, float64(server.MaxBytes), node))
		}
	}
	return found, nil
}
