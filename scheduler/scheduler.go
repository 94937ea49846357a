// Package scheduler does what happens by the clock, and must happen once in a deployment however many processes run.
//
// Any number of Schedulers may run; one of them leads and acts, the others wait to take over: within seconds when the
// leader dies, at once when it leaves. The leader runs the reconciler, which mends what asynq cannot: deliveries of dead
// workers, half-written states, jobs without a task, jobs past their deadline, batches that did not learn of an end; it
// tells of dead letters that become many or old; and where it has a catalog, it has the endpoints probed, publishes which
// one each tier asks first, makes the jobs of schedules, and tells people of what is wrong.
package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	watching "github.com/forebay-queue/forebay/scheduler/internal/alerts"
	"github.com/forebay-queue/forebay/scheduler/internal/deadletters"
	"github.com/forebay-queue/forebay/scheduler/internal/health"
	"github.com/forebay-queue/forebay/scheduler/internal/keeper"
	"github.com/forebay-queue/forebay/scheduler/internal/leader"
	"github.com/forebay-queue/forebay/scheduler/internal/reconciler"
	"github.com/forebay-queue/forebay/scheduler/internal/ticker"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/tasks/schedules"
	"github.com/forebay-queue/forebay/tasks/seal"
)

const (
	// maxClockSkew is how far this machine's clock may be off Redis's, as for workers: both are compared with deadlines.
	maxClockSkew = 15 * time.Second
	startTimeout = 5 * time.Second
	// drain is how long Run lets the step that is under way finish: no step takes longer.
	drain = 10 * time.Second
	// defaultHealthInterval is the time from one health probe of an endpoint to the next.
	defaultHealthInterval = time.Minute
)

// NoHealthProbes is the interval with which no endpoint is probed.
const NoHealthProbes time.Duration = -1

// Config configures a Scheduler. A zero field means its documented default.
type Config struct {
	// Redis is the client to use; the Scheduler does not close it. Required. It takes up to 4 connections, one of which
	// listens.
	Redis redis.UniversalClient
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix. All processes of a deployment share it.
	Prefix string
	// Sealer encrypts what is kept of requests and results: jobs that nobody acts for are read, and ended with a result.
	// Defaults to none.
	Sealer *seal.Sealer
	// Shards is into how many shards the queues are divided, 1 to keyspace.MaxShards. Defaults to 1.
	Shards keyspace.Shards
	// Plan is what Reload changes.
	Plan
	// Registerer takes the series that the Scheduler counts and, while it leads, those of the deployment. Defaults to none.
	Registerer prometheus.Registerer
	// Log takes a line for every change of the leader and for everything that was mended. The zero value discards them.
	Log zerolog.Logger
}

// Plan is what a Scheduler works by. A zero field means its documented default.
type Plan struct {
	// Catalog is a validated catalog. Without one no endpoint is probed, and no active endpoint published, and reply streams are
	// kept for the default time.
	Catalog *catalog.Catalog
	// Schedules are those of the configuration, beside those that were added while it runs. They must have passed Complete.
	// Without a Catalog none makes jobs.
	Schedules []schedules.Schedule
	// HealthInterval is the time from one health probe of an endpoint to the next, at least 1s; NoHealthProbes turns
	// them off. Defaults to 60s.
	HealthInterval time.Duration
	// Alerts are how the deployment is judged, and whom it is told; nil is not at all. They must be those of a configuration
	// that was checked, or alerts.DefaultSettings. Without a Catalog nothing is judged.
	Alerts *alerts.Settings
}

func (c Config) validate() error {
	var missing error
	if c.Redis == nil {
		missing = errors.New("scheduler: Redis is missing")
	}
	shards := c.Shards.Check()
	if shards != nil {
		shards = fmt.Errorf("scheduler: %w", shards)
	}
	return errors.Join(missing, c.Plan.validate(), shards)
}

func (p Plan) validate() error {
	if p.HealthInterval != 0 && p.HealthInterval != NoHealthProbes && p.HealthInterval < time.Second {
		return fmt.Errorf("scheduler: health_interval must be at least 1s, got %s", p.HealthInterval)
	}
	return nil
}

// health is the Clock of one term, as long as the plan holds.
func (s *Scheduler) health(p Plan, term *leader.Term) *health.Clock {
	every := cmp.Or(p.HealthInterval, defaultHealthInterval)
	if every == NoHealthProbes {
		every = 0
	}
	return health.New(health.Config{Redis: s.redis, Keys: s.store.Keys(), Catalog: p.Catalog, Every: every, Term: term, Log: s.log})
}

// ticker makes the jobs of schedules for one term, as long as the plan holds.
func (s *Scheduler) ticker(p Plan, term *leader.Term) *ticker.Ticker {
	return ticker.New(ticker.Config{
		Redis: s.redis, Store: s.store, Catalog: p.Catalog, Configured: p.Schedules, Term: term, Log: s.log, Registerer: s.registerer,
	})
}

// alerts judges the deployment for one term, as long as the plan holds.
func (s *Scheduler) alerts(p Plan, term *leader.Term) *watching.Watch {
	return watching.New(watching.Config{
		Redis: s.redis, Store: s.store, Catalog: p.Catalog, Settings: *p.Alerts, Workers: s.countWorkers, Term: term,
		Sender: s.sender, Sent: s.sent, Log: s.log,
	})
}

// Scheduler takes part in the election of the leader, and acts while it leads. It is made by New and used once: Start,
// then Shutdown; or Run.
type Scheduler struct {
	redis     redis.UniversalClient
	log       zerolog.Logger
	store     *jobstore.Store
	candidate *leader.Candidate
	shards    keyspace.Shards
	// registerer may be nil.
	registerer prometheus.Registerer
	activity   *activity.Recorder
	// sender sends the messages of alerts, which sent counts.
	sender *watching.Sender
	sent   *prometheus.CounterVec

	// plan is what it works by until replaced is closed.
	planning sync.Mutex
	plan     Plan
	replaced chan struct{}

	started atomic.Bool
	leading atomic.Pointer[leader.Term]
	running context.Context
	stop    context.CancelFunc
	group   sync.WaitGroup
}

// New returns a Scheduler that has not started. It sends nothing yet.
func New(config Config) (*Scheduler, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := &Scheduler{
		redis: config.Redis, log: config.Log, plan: config.Plan, replaced: make(chan struct{}), shards: config.Shards,
		registerer: config.Registerer, sender: watching.NewSender(), sent: watching.NewSent(config.Registerer),
	}
	s.activity = activity.New(config.Redis, keyspace.New(config.Prefix), config.Registerer, config.Log)
	ends, ledger := metrics.NewEnds(config.Registerer), metrics.NewLedger(config.Registerer)
	stores := jobstore.Config{
		Redis: config.Redis, Prefix: config.Prefix, Sealer: config.Sealer, Shards: config.Shards,
		Ended: func(job tasks.Job, status tasks.Status, result tasks.Result) {
			ends.Ended(s.catalog(), job, status, result)
			s.activity.Ended(s.catalog(), job, status, result)
		},
		Accepted:  s.activity.Accepted,
		Abandoned: func(attempt tasks.Attempt) { ledger.Abandoned(s.catalog(), attempt) },
	}
	if config.Catalog != nil {
		stores.Replies = jobstore.Replies(config.Catalog.ReplyStreams)
	}
	store, err := jobstore.New(stores)
	if err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	s.store = store
	s.candidate = leader.New(leader.Config{Redis: config.Redis, Keys: store.Keys(), Log: config.Log})
	s.running, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Run starts the Scheduler, waits for the context to end, and leaves: if it leads, another one leads at once.
func (s *Scheduler) Run(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	return s.Shutdown(end)
}

// Start checks Redis and begins to stand for leader. The context bounds the start only.
func (s *Scheduler) Start(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("scheduler: started twice")
	}
	if err := s.checkClock(ctx); err != nil {
		return err
	}
	hide, err := s.showDeployment()
	if err != nil {
		return err
	}
	s.group.Go(func() {
		defer hide()
		s.candidate.Run(s.running, s.lead)
	})
	s.log.Info().Msg("scheduler started")
	return nil
}

// Shutdown leaves, and waits for the step that is under way until the context ends.
func (s *Scheduler) Shutdown(ctx context.Context) error {
	s.stop()
	done := make(chan struct{})
	go func() {
		s.group.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.activity.Close(context.WithoutCancel(ctx))
		s.sender.Close()
		s.log.Info().Msg("scheduler stopped")
		return s.store.Close()
	case <-ctx.Done():
		return fmt.Errorf("scheduler: a step was still under way: %w", context.Cause(ctx))
	}
}

// Leading tells whether this Scheduler leads now.
func (s *Scheduler) Leading() bool {
	term := s.leading.Load()
	return term != nil && term.Err() == nil
}

// lead is what the leader does in one term.
func (s *Scheduler) lead(ctx context.Context, term *leader.Term) {
	s.leading.Store(term)
	defer s.leading.Store(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { s.followPlan(ctx, term) })
	parts.Go(func() { keeper.New(s.store, term, s.log).Run(ctx) })
	parts.Go(func() { s.deadLetters(term).Run(ctx) })
	mending, err := reconciler.New(reconciler.Config{Redis: s.redis, Store: s.store, Shards: s.shards, Term: term, Log: s.log})
	if err != nil {
		s.log.Error().Err(err).Msg("nothing is mended")
		<-ctx.Done()
		return
	}
	mending.Run(ctx)
}

// followPlan does what the plan says, and begins anew whenever there is another. What was under way of the old one ends
// first.
func (s *Scheduler) followPlan(ctx context.Context, term *leader.Term) {
	for ctx.Err() == nil {
		s.planning.Lock()
		plan, replaced := s.plan, s.replaced
		s.planning.Unlock()
		holds, stop := context.WithCancel(ctx)
		var parts sync.WaitGroup
		if plan.Catalog != nil {
			parts.Go(func() { s.health(plan, term).Run(holds) })
			parts.Go(func() { s.ticker(plan, term).Run(holds) })
			if plan.Alerts != nil {
				parts.Go(func() { s.alerts(plan, term).Run(holds) })
			}
		}
		select {
		case <-ctx.Done():
		case <-replaced:
		}
		stop()
		parts.Wait()
	}
}

// Reload has the Scheduler work by another plan, whose catalog must have passed its Validate. Without an error the new one
// holds; with one the old one does.
func (s *Scheduler) Reload(plan Plan) error {
	if err := plan.validate(); err != nil {
		return err
	}
	if plan.Catalog != nil {
		s.store.SetReplies(jobstore.Replies(plan.Catalog.ReplyStreams))
	}
	s.planning.Lock()
	defer s.planning.Unlock()
	close(s.replaced)
	s.plan, s.replaced = plan, make(chan struct{})
	return nil
}

// catalog is that of the plan; nil where it has none.
func (s *Scheduler) catalog() *catalog.Catalog {
	s.planning.Lock()
	defer s.planning.Unlock()
	return s.plan.Catalog
}

// deadLetters is what watches them in one term.
func (s *Scheduler) deadLetters(term *leader.Term) *deadletters.Watch {
	return deadletters.New(deadletters.Config{
		Redis: s.redis, Keys: s.store.Keys(), Term: term, Log: s.log,
		Count: map[string]func(context.Context) (jobstore.Dead, error){
			"jobs": s.store.Dead, "webhooks": s.store.DeadWebhooks,
		},
	})
}

// checkClock refuses to work with a clock far from Redis's.
func (s *Scheduler) checkClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	server, err := s.redis.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("scheduler: reach Redis: %w", err)
	}
	if skew := time.Since(server); skew.Abs() > maxClockSkew {
		return fmt.Errorf("scheduler: this machine's clock is %s off Redis's, more than %s; set it by NTP and start again",
			skew.Round(time.Millisecond), maxClockSkew)
	}
	return nil
}
