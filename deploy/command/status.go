package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// statusReply is what `forebay status --json` prints.
type statusReply struct {
	Redis   string        `json:"redis"`
	Workers []string      `json:"workers"`
	Queues  []queueStatus `json:"queues"`
	// Endpoints is absent without a configuration, which alone knows them.
	Endpoints []endpointStatus `json:"endpoints,omitempty"`
}

// queueStatus counts the tasks of a queue.
type queueStatus struct {
	Queue     string `json:"queue"`
	Pending   int    `json:"pending"`
	Active    int    `json:"active"`
	Scheduled int    `json:"scheduled"`
	Retry     int    `json:"retry"`
	Archived  int    `json:"archived"`
	Paused    bool   `json:"paused"`
}

// endpointStatus is what all workers together know of an endpoint. Its totals are those since the beginning.
type endpointStatus struct {
	Endpoint            string     `json:"endpoint"`
	Account             string     `json:"account"`
	Region              string     `json:"region,omitempty"`
	Priority            int        `json:"priority"`
	Simulated           bool       `json:"simulated,omitempty"`
	Breaker             gate.State `json:"breaker"`
	Until               *time.Time `json:"until,omitempty"`
	ProbeUntil          *time.Time `json:"probe_until,omitempty"`
	ConsecutiveFailures int64      `json:"consecutive_failures"`
	LatencyMS           float64    `json:"latency_ms,omitempty"`
	Calls               int64      `json:"calls"`
	Successes           int64      `json:"successes"`
	Failures            int64      `json:"failures"`
	Trips               int64      `json:"trips"`
	Probes              int64      `json:"probes"`
	Recoveries          int64      `json:"recoveries"`
}

func newStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the queues, the workers, and the endpoints with their breakers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			client, err := s.connect(cmd.Context(), 4)
			if err != nil {
				return err
			}
			defer client.Close()
			reply, err := readStatus(cmd.Context(), client, s)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, reply)
			}
			return printStatus(cmd.OutOrStdout(), reply, time.Now())
		},
	}
}

func readStatus(ctx context.Context, client *redis.Client, s *settings) (statusReply, error) {
	reply := statusReply{Redis: redisAddress(s.redis)}
	keys := keyspace.New(s.prefix)
	var err error
	if reply.Workers, err = liveWorkers(ctx, client, keys); err != nil {
		return reply, err
	}
	if reply.Queues, err = readQueues(client); err != nil {
		return reply, err
	}
	if s.file != nil {
		reply.Endpoints, err = readEndpoints(ctx, client, keys, &s.file.Catalog)
	}
	return reply, err
}

// liveWorkers lists the ids of the workers whose liveness keys have not expired.
func liveWorkers(ctx context.Context, client *redis.Client, keys keyspace.Keyspace) ([]string, error) {
	found := map[string]bool{} // SCAN may show a key twice
	scan := client.Scan(ctx, 0, keys.Workers(), 1000).Iterator()
	for scan.Next(ctx) {
		found[strings.TrimPrefix(scan.Val(), keys.Worker(""))] = true
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("look for workers in Redis: %w", err)
	}
	ids := make([]string, 0, len(found))
	return slices.AppendSeq(ids, maps.Keys(found)), nil
}

func readQueues(client *redis.Client) ([]queueStatus, error) {
	inspector := asynq.NewInspectorFromRedisClient(client)
	known, err := inspector.Queues()
	if err != nil {
		return nil, fmt.Errorf("list the queues in Redis: %w", err)
	}
	var queues []queueStatus
	for _, priority := range tasks.Priorities() {
		queue := queueStatus{Queue: string(priority)}
		if slices.Contains(known, queue.Queue) { // else nothing was ever enqueued there
			found, err := inspector.GetQueueInfo(queue.Queue)
			if err != nil {
				return nil, fmt.Errorf("read the queue %s in Redis: %w", queue.Queue, err)
			}
			queue = queueStatus{
				queue.Queue, found.Pending, found.Active, found.Scheduled, found.Retry, found.Archived, found.Paused,
			}
		}
		queues = append(queues, queue)
	}
	return queues, nil
}

func readEndpoints(ctx context.Context, client *redis.Client, keys keyspace.Keyspace, c *catalog.Catalog) ([]endpointStatus, error) {
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
	states, err := gate.New(client, keys, c.Breaker).Endpoints(ctx, names)
	if err != nil {
		return nil, err
	}
	statuses := make([]endpointStatus, len(endpoints))
	for i, endpoint := range endpoints {
		state := states[i]
		statuses[i] = endpointStatus{
			Endpoint: endpoint.Name, Account: endpoint.Account, Region: endpoint.Region, Priority: endpoint.Priority,
			Simulated: endpoint.Simulated, Breaker: state.State, Until: timeOrNil(state.Until),
			ProbeUntil: timeOrNil(state.ProbeUntil), ConsecutiveFailures: state.ConsecutiveFailures,
			LatencyMS: float64(state.Latency.Microseconds()) / 1000, Calls: state.Calls, Successes: state.Successes,
			Failures: state.Failures, Trips: state.Trips, Probes: state.Probes, Recoveries: state.Recoveries,
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

func printStatus(out io.Writer, reply statusReply, now time.Time) error {
	alive := fmt.Sprintf("%d alive", len(reply.Workers))
	if len(reply.Workers) == 0 {
		alive = "none alive; start one with `forebay worker`"
	}
	fmt.Fprintf(out, "redis    %s\nworkers  %s\n\n", reply.Redis, alive)
	list := table(out)
	row(list, "QUEUE", "PENDING", "ACTIVE", "SCHEDULED", "RETRY", "ARCHIVED")
	for _, queue := range reply.Queues {
		name := queue.Queue
		if queue.Paused {
			name += " (paused)"
		}
		row(list, name, queue.Pending, queue.Active, queue.Scheduled, queue.Retry, queue.Archived)
	}
	if err := list.Flush(); err != nil {
		return err
	}
	if reply.Endpoints == nil {
		_, err := fmt.Fprintf(out, "\nThe endpoints and their breakers are shown where there is a configuration (--%s).\n", flagConfig)
		return err
	}
	fmt.Fprintln(out)
	row(list, "ENDPOINT", "REGION", "ACCOUNT", "BREAKER", "FAILURES", "LATENCY", "CALLS", "OK", "FAILED", "TRIPS", "PROBES", "RECOVERIES")
	for _, e := range reply.Endpoints {
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

func (e endpointStatus) breaker(now time.Time) string {
	switch {
	case e.ProbeUntil != nil:
		return "half-open, probe out"
	case e.Breaker == gate.StateOpen && e.Until != nil:
		return "open until " + clock(*e.Until, now)
	}
	return string(e.Breaker)
}
