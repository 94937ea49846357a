package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// lookEvery is how often the breakers and the endpoints' health are looked at for what is published.
	lookEvery = 5 * time.Second
	// stepTimeout bounds one step.
	stepTimeout = 5 * time.Second
	// again is how soon a tick is tried again that Redis did not take.
	again = 2 * time.Second
)

// Term is the time for which this process leads.
type Term interface {
	// Err is not nil once this process may not act any more.
	Err() error
}

// Config configures a Clock. All but Log is required.
type Config struct {
	// Redis is the client to use.
	Redis redis.UniversalClient
	// Keys are those of the deployment.
	Keys keyspace.Keyspace
	// Catalog is a validated catalog.
	Catalog *catalog.Catalog
	// Every is the time from one tick to the next, at least 1s; 0 makes no health probes.
	Every time.Duration
	// Term is the leader's.
	Term Term
	// Log takes a line when something goes wrong. The zero value discards them.
	Log zerolog.Logger
}

// Clock ticks for one term of one leader.
type Clock struct {
	config    Config
	client    *asynq.Client
	inspector *asynq.Inspector
	gate      *gate.Gate
	endpoints []gate.Endpoint
	// published is what was published last; nil before the first look of the term.
	published []gate.Active
}

// New returns a Clock that does not tick yet.
func New(config Config) *Clock {
	c := &Clock{
		config: config, client: asynq.NewClientFromRedisClient(config.Redis),
		inspector: asynq.NewInspectorFromRedisClient(config.Redis),
		gate:      gate.New(config.Redis, config.Keys, config.Catalog),
	}
	for _, name := range slices.Sorted(maps.Keys(config.Catalog.Endpoints)) {
		c.endpoints = append(c.endpoints, gate.Endpoint{Account: config.Catalog.Endpoints[name].Account, Name: name})
	}
	return c
}

// Run ticks until the context ends.
func (c *Clock) Run(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	if c.config.Every == 0 {
		tick.Stop()
	}
	troubled := map[string]bool{}
	tell := func(what string, err error) {
		if err != nil && ctx.Err() == nil && !troubled[what] {
			c.config.Log.Warn().Err(err).Msg("cannot " + what + " at the moment; trying on")
		}
		troubled[what] = err != nil
	}
	c.publish(ctx, tell)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			var next time.Duration
			tell("enqueue health probes", c.bounded(ctx, func(ctx context.Context) (err error) {
				next, err = c.enqueue(ctx)
				return err
			}))
			tick.Reset(next)
		case <-look.C:
			c.publish(ctx, tell)
		}
	}
}

// publish publishes what each tier asks first.
func (c *Clock) publish(ctx context.Context, tell func(what string, err error)) {
	tell("publish the active endpoints", c.bounded(ctx, c.publishActive))
}

// bounded runs one step, unless this process leads no more.
func (c *Clock) bounded(ctx context.Context, step func(context.Context) error) error {
	if err := c.config.Term.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return step(ctx)
}

// enqueue enqueues the health probes of the tick that it is, where that was not done, and returns the time to the next.
func (c *Clock) enqueue(ctx context.Context) (next time.Duration, err error) {
	now, err := c.config.Redis.Time(ctx).Result()
	if err != nil {
		return again, fmt.Errorf("ask Redis for the time: %w", err)
	}
	every := c.config.Every
	tick := time.UnixMilli(now.UnixMilli() / every.Milliseconds() * every.Milliseconds())
	for _, endpoint := range c.endpoints {
		if err := c.enqueueOne(ctx, envelope.HealthProbe{Endpoint: endpoint.Name, Tick: tick, Every: every}); err != nil {
			return again, err
		}
	}
	return tick.Add(every).Sub(now), nil
}

func (c *Clock) enqueueOne(ctx context.Context, probe envelope.HealthProbe) error {
	task, options, err := envelope.NewHealthProbe(c.config.Keys, probe)
	if err != nil {
		return err
	}
	if _, err = c.client.EnqueueContext(ctx, task, options...); errors.Is(err, asynq.ErrTaskIDConflict) {
		return nil // a leader before this one did it
	} else if err != nil {
		return fmt.Errorf("enqueue the health probe of endpoint %s: %w", probe.Endpoint, err)
	}
	// One that a worker is making is refused, one that was made is forgotten, and most are gone: none of it matters,
	// and an outage is told by the enqueueing.
	_ = c.inspector.DeleteTask(envelope.HealthQueue(c.config.Keys), probe.Previous().TaskID())
	return nil
}
