// Package worker turns jobs into completions: it takes their tasks from asynq's queues, walks the routes that the
// catalog has for them, makes the calls that the gate admits, and commits what comes of them.
//
// A Worker may run in a process of its own (forebay worker) or be embedded in any Go program.
package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/servers"
	"github.com/forebay-queue/forebay/worker/internal/hooks"
	"github.com/forebay-queue/forebay/worker/internal/policy"
	"github.com/forebay-queue/forebay/worker/internal/slots"
)

const (
	defaultSlots = 16
	defaultDrain = 2 * time.Minute
	// maxClockSkew is how far this machine's clock may be off Redis's: asynq's scores and leases use both.
	maxClockSkew = 15 * time.Second
	// clockTimeout bounds the question for Redis's time at the start.
	clockTimeout = 5 * time.Second
	// lastWrites is how long results and ledgers may still be written after running calls were given up.
	lastWrites = 5 * time.Second
)

// weights are the shares of freed slots when several queues have work.
var weights = map[tasks.Priority]int{tasks.PriorityCritical: 6, tasks.PriorityDefault: 3, tasks.PriorityBulk: 1}

// Config configures a Worker. A zero field means its documented default.
type Config struct {
	// Redis is the client to use; the Worker does not close it. Required. Give it a pool of at least Slots connections,
	// those of the catalog's webhooks, and one for each shard of each queue: Connections says how many.
	Redis redis.UniversalClient
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix. All processes of a deployment share it.
	Prefix string
	// Sealer encrypts what is kept of requests and results. All processes of a deployment need the same keys. Defaults to
	// none.
	Sealer *seal.Sealer
	// Catalog is a validated catalog. Required.
	Catalog *catalog.Catalog
	// Slots is how many deliveries run at once. Defaults to 16.
	Slots int
	// Shards is into how many shards the queues are divided, 1 to keyspace.MaxShards. Those that others have enqueued into
	// are served as well. Defaults to 1.
	Shards keyspace.Shards
	// DrainTimeout is how long Run lets running calls finish once it is told to stop. Defaults to 2m; it should be
	// longer than the longest timeout of an endpoint.
	DrainTimeout time.Duration
	// Dial opens connections to endpoints. Defaults to TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Registerer takes the series that the Worker counts. Defaults to none.
	Registerer prometheus.Registerer
	// Version is what webhooks name as their sender's. Defaults to none.
	Version string
	// Member is this process in the fleet; the Worker says for it that it lives. Defaults to one of a worker's.
	Member *fleet.Member
	// TraceContent puts prompts and answers into the spans of calls. Defaults to none: nothing of them leaves the
	// deployment's Redis and its providers.
	TraceContent bool
	// TraceUpstream sends the trace's context to the providers, too.
	TraceUpstream bool
	// Log takes the Worker's lines. The zero value discards them.
	Log zerolog.Logger
}

func (c Config) validate() error {
	var problems []error
	if c.Redis == nil {
		problems = append(problems, errors.New("worker: Redis is missing"))
	}
	if c.Catalog == nil {
		problems = append(problems, errors.New("worker: Catalog is missing"))
	}
	if c.Slots < 0 || c.Slots > 10_000 {
		problems = append(problems, fmt.Errorf("worker: slots must be 1 to 10000, got %d", c.Slots))
	}
	if c.DrainTimeout < 0 {
		problems = append(problems, fmt.Errorf("worker: drain_timeout must be positive, got %s", c.DrainTimeout))
	}
	if err := c.Shards.Check(); err != nil {
		problems = append(problems, fmt.Errorf("worker: %w", err))
	}
	return errors.Join(problems...)
}

// Worker takes jobs from the queues and does them. It is made by New and used once: Start, then Shutdown; or Run.
type Worker struct {
	id     string
	config Config
	redis  redis.UniversalClient
	// plans have what deliveries work by; reloading holds one change of it at a time.
	plans     plans
	reloading sync.Mutex
	// pipe merges the commands of concurrent deliveries. It looks at no command's context: what bounds a command are
	// the timeouts of the client.
	pipe  *redis.AutoPipeliner
	store *jobstore.Store
	// enqueuer enqueues the tasks of adopted jobs, inspector looks at those in their way.
	enqueuer  *asynq.Client
	inspector *asynq.Inspector
	log       zerolog.Logger
	pool      *slots.Pool
	series    *series
	// posts are the attempts of webhooks that are out, room is where deliveries wait for one.
	posts posts
	room  *hooks.Room

	running deliveries
	// ways are the queues by what users call them, shards those of asynq's that are served.
	ways   map[string]way
	shards shards
	pauses *pauses.Store
	// paused is what was last known to be paused, nil before the first look. Looking holds one look at a time.
	paused  atomic.Pointer[pauses.State]
	looking sync.Mutex
	// asynqLines are those that asynq logs, for all queues.
	asynqLines repeats
	// unknown are the endpoints of health probes that the catalog does not have, once that was told.
	unknown sync.Map

	// alive ends when running calls are to be given up, writable some seconds later.
	alive    context.Context
	abort    context.CancelCauseFunc
	writable context.Context
	seal     context.CancelFunc
	// stopping is closed when nothing new is to be begun.
	stopping   chan struct{}
	stopOnce   sync.Once
	started    atomic.Bool
	pulse      pulse
	background sync.WaitGroup
}

// New returns a Worker that has not started. It reaches nothing outside the process.
func New(config Config) (*Worker, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if config.Slots == 0 {
		config.Slots = defaultSlots
	}
	if config.Member == nil {
		config.Member = fleet.Join(config.Redis, keyspace.New(config.Prefix), fleet.Process{Kind: fleet.Worker, Version: config.Version})
	}
	if config.DrainTimeout == 0 {
		config.DrainTimeout = defaultDrain
	}
	w := &Worker{
		id: config.Member.ID(), config: config, redis: config.Redis, log: config.Log,
		pool: slots.New(config.Slots), stopping: make(chan struct{}),
	}
	w.series = newSeries(config.Registerer, activity.New(config.Redis, keyspace.New(config.Prefix), config.Registerer, config.Log))
	w.alive, w.abort = context.WithCancelCause(context.Background())
	w.writable, w.seal = context.WithCancel(context.Background())
	return w, w.connect()
}

// connect builds what stands on Redis.
func (w *Worker) connect() error {
	pipe, err := w.redis.AsyncAutoPipeline()
	if err != nil {
		return fmt.Errorf("worker: pipeline: %w", err)
	}
	w.pipe = pipe
	first, err := w.newPlan(w.config.Catalog)
	if err != nil {
		return err
	}
	w.plans.change(first)
	w.pauses = pauses.New(w.redis, keyspace.New(w.config.Prefix))
	w.store, err = jobstore.New(jobstore.Config{
		Redis: w.redis, Pipe: pipe, Prefix: w.config.Prefix, Sealer: w.config.Sealer, Shards: w.config.Shards,
		Replies: jobstore.Replies(w.config.Catalog.ReplyStreams),
		Ended:   w.ended, Accepted: w.series.activity.Accepted, Abandoned: w.abandoned,
	})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	w.enqueuer, w.inspector = asynq.NewClientFromRedisClient(w.redis), asynq.NewInspectorFromRedisClient(w.redis)
	w.ways = map[string]way{}
	for _, priority := range tasks.Priorities() {
		w.ways[string(priority)] = way{w.pool.Queue(string(priority), weights[priority]), w.config.Slots}
	}
	// Webhooks have slots of their own: neither they nor jobs wait for each other. Those that wait in place for
	// a permit send nothing, so that there may be many.
	most := w.config.Catalog.Webhooks.Slots
	w.posts, w.room = make(posts, most), hooks.NewRoom(4*most)
	w.ways[envelope.WebhookQueueName] = way{slots.New(5*most).Queue(envelope.WebhookQueueName, 1), 5 * most}
	return nil
}

// ID identifies this Worker in ledgers and liveness keys. It is new with every process.
func (w *Worker) ID() string { return w.id }

// Run starts the Worker, waits for the context to end, and drains: nothing new is begun, calls that are out finish,
// for at most DrainTimeout; after it, or at once when Abort is called, they are given up and their jobs given back.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.config.DrainTimeout)
	defer cancel()
	return w.Shutdown(drain)
}

// Start checks Redis and begins to take jobs. The context bounds the start only.
func (w *Worker) Start(ctx context.Context) error {
	if !w.started.CompareAndSwap(false, true) {
		return errors.New("worker: started twice")
	}
	if err := w.checkServers(ctx); err != nil {
		return err
	}
	if err := w.checkClock(ctx); err != nil {
		return err
	}
	if err := w.config.Member.Beat(ctx); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if err := w.refreshPauses(ctx, true); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if err := w.lookAtOrder(ctx); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	w.series.slots.add(w.pool)
	w.pulse.beat()
	w.background.Go(w.heartbeat)
	w.background.Go(w.listen)
	if err := w.serveShards(ctx); err != nil {
		w.Abort()
		return errors.Join(fmt.Errorf("worker: %w", err), w.Shutdown(ctx))
	}
	w.background.Go(w.followShards)
	w.pulse.takes.Store(true)
	w.log.Info().Str("worker", w.id).Int("slots", w.config.Slots).Msg("worker started")
	return nil
}

// Shutdown takes nothing new and lets the calls that are out finish, though not the walks over further routes. When
// the context ends, what still runs is given up and given back.
func (w *Worker) Shutdown(ctx context.Context) error {
	w.stopOnce.Do(func() { close(w.stopping) })
	release := context.AfterFunc(ctx, w.Abort)
	defer release()
	problems := w.stopShards()
	w.running.wait()
	w.Abort()
	w.seal()
	w.background.Wait()
	w.reloading.Lock() // no Reload begins any more
	w.plans.leave(w.plans.current)
	w.reloading.Unlock()
	w.series.slots.remove(w.pool)
	w.leave()
	w.series.activity.Close(context.WithoutCancel(ctx))
	problems = append(problems, w.store.Close())
	w.log.Info().Str("worker", w.id).Msg("worker stopped")
	return errors.Join(problems...)
}

// Abort gives up the calls that are out: their jobs go back into the queue, and the calls into the ledger as maybe
// billed. It is what a second signal means. It does not wait; Shutdown does.
func (w *Worker) Abort() {
	w.abort(policy.ErrAbandoned)
	time.AfterFunc(lastWrites, w.seal)
}

// draining tells that nothing new is to be begun.
func (w *Worker) draining() bool {
	select {
	case <-w.stopping:
		return true
	default:
		return false
	}
}

// checkClock refuses to work with a clock far from Redis's: deadlines and leases would be off by as much.
func (w *Worker) checkClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	server, err := w.redis.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("worker: reach Redis: %w", err)
	}
	if skew := time.Since(server); skew.Abs() > maxClockSkew {
		return fmt.Errorf("worker: this machine's clock is %s off Redis's, more than %s; set it by NTP and start again",
			skew.Round(time.Millisecond), maxClockSkew)
	}
	return nil
}

// checkServers refuses a Redis that would lose jobs by itself.
func (w *Worker) checkServers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	warnings, err := servers.Check(ctx, w.redis)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	for _, warning := range warnings {
		w.log.Warn().Msg(warning)
	}
	return nil
}
