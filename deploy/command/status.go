package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// statusReply is what `forebay status --json` prints.
type statusReply struct {
	Redis   string   `json:"redis"`
	Workers []string `json:"workers"`
	// Fleet is all processes, the workers among them.
	Fleet  fleetStatus      `json:"fleet"`
	Queues []producer.Queue `json:"queues"`
	// PausedTaskTypes are those of which no call is begun.
	PausedTaskTypes []string `json:"paused_task_types"`
	// Waiting is what open jobs wait for.
	Waiting waitsStatus `json:"waiting"`
	// DeadLetters is what has failed and waits for somebody to retry or discard it.
	DeadLetters deadStatus `json:"dead_letters"`
	// Alerts are those that fire, the gravest and oldest first.
	Alerts []alerts.Alert `json:"alerts"`
	// Endpoints is absent without a configuration, which alone knows them.
	Endpoints []endpointStatus `json:"endpoints,omitempty"`
	// Budget is how today's stands, absent as the endpoints are.
	Budget []scopeStatus `json:"budget,omitempty"`
	// Tiers are what serves each tier, and Spend what today's calls cost, absent as the endpoints are.
	Tiers []tierStatus `json:"tiers,omitempty"`
	Spend *spendStatus `json:"spend,omitempty"`
}

func newStatusCommand() *cobra.Command {
	var active, watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the queues, the workers, and the endpoints with their breakers and health",
		Long: `Show the queues, the workers, and the endpoints with their breakers and health.

With --watch all of it is shown again and again: on a terminal as one screen, which q, Esc or Ctrl-C ends; elsewhere as a
line with a time stamp whenever something has changed, and at least once a minute; with --json as one object a line. A
Redis that goes away is said so, and asked again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkWatchFlags(cmd, watch, active, every); err != nil {
				return err
			}
			return onRedisOf(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
				if active {
					return showActive(ctx, cmd, s, client)
				}
				if watch {
					return watchStatus(cmd, s, client, every)
				}
				reply, err := readStatus(ctx, s.deployment(client))
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, reply)
				}
				return printStatus(cmd.OutOrStdout(), reply, time.Now())
			})
		},
	}
	cmd.Flags().BoolVar(&active, "active", false, "show which endpoint each tier asks first, and nothing else")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&every, "every", watchEvery, "how often with --watch, such as 500ms or 10s")
	return cmd
}

// deployment is what a status is read of.
type deployment struct {
	client redis.UniversalClient
	// redis names it, without credentials.
	redis, prefix string
	// catalog is nil without a configuration.
	catalog *catalog.Catalog
}

func readStatus(ctx context.Context, d deployment) (statusReply, error) {
	reply, client, keys := statusReply{Redis: d.redis}, d.client, keyspace.New(d.prefix)
	var err error
	if reply.Fleet, err = readFleet(ctx, client, keys); err != nil {
		return reply, err
	}
	reply.Workers = reply.Fleet.workers()
	found, err := producer.ReadQueues(ctx, client, keys)
	if err != nil {
		return reply, err
	}
	reply.Queues, reply.PausedTaskTypes = found.Queues, found.PausedTaskTypes
	if reply.Waiting, err = readWaits(ctx, client, d.prefix); err != nil {
		return reply, err
	}
	if reply.DeadLetters, err = readDead(ctx, client, d.prefix); err != nil {
		return reply, err
	}
	if reply.Alerts, err = alerts.Firing(ctx, client, keys); err != nil {
		return reply, err
	}
	if d.catalog != nil {
		if reply.Endpoints, err = readEndpoints(ctx, client, keys, d.catalog); err != nil {
			return reply, err
		}
		if err = readLimits(ctx, d, keys, reply.Endpoints); err != nil {
			return reply, err
		}
		if reply.Tiers, err = readTiers(ctx, client, keys, d.catalog, reply.Endpoints); err != nil {
			return reply, err
		}
		reply.Spend, reply.Budget, err = readSpend(ctx, client, keys, d.catalog)
	}
	return reply, err
}

func (s *settings) deployment(client redis.UniversalClient) deployment {
	d := deployment{client: client, redis: redisAddress(s.redis), prefix: s.prefix}
	if s.file != nil {
		d.catalog = &s.file.Catalog
	}
	return d
}

func printStatus(out io.Writer, reply statusReply, now time.Time) error {
	alive := fmt.Sprintf("%d alive", len(reply.Workers))
	if len(reply.Workers) == 0 {
		alive = "none alive; start one with `forebay worker`"
	}
	fmt.Fprintf(out, "redis    %s\nworkers  %s\n\n", reply.Redis, alive)
	if len(reply.Alerts) > 0 {
		if err := printFiring(out, reply.Alerts, now); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	if err := printQueues(out, reply.Queues, reply.PausedTaskTypes); err != nil {
		return err
	}
	if err := printFleet(out, reply.Fleet, now); err != nil {
		return err
	}
	if err := printWaits(out, reply.Waiting, now); err != nil {
		return err
	}
	if err := printDead(out, reply.DeadLetters, now); err != nil {
		return err
	}
	if reply.Endpoints == nil {
		_, err := fmt.Fprintf(out, "\nThe endpoints and their breakers are shown where there is a configuration (--%s).\n", flagConfig)
		return err
	}
	fmt.Fprintln(out)
	if err := printEndpoints(out, reply.Endpoints, now); err != nil {
		return err
	}
	return printHealth(out, reply.Endpoints)
}
