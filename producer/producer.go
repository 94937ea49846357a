// Package producer is the way in for Go programs: it accepts jobs, says how they stand, waits for their results and
// cancels them. The answers to jobs are made by workers; see package worker.
package producer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/servers"
)

// What a Client's errors wrap, beside tasks.ErrInvalidJob for a job that is refused.
var (
	// ErrNotFound: there is no such job, or no longer.
	ErrNotFound = jobstore.ErrNotFound
	// ErrIDConflict: the id belongs to a job that asks for something else.
	ErrIDConflict = jobstore.ErrIDConflict
	// ErrNotEnded: the job is to be reopened, and has not ended.
	ErrNotEnded = jobstore.ErrNotEnded
	// ErrRefused: the job is to be reopened, and was never accepted.
	ErrRefused = jobstore.ErrRefused
	// ErrSucceeded: the job is to be reopened, and has succeeded.
	ErrSucceeded = jobstore.ErrSucceeded
	// ErrStaleRun: the run that was meant is over, because the job was reopened.
	ErrStaleRun = jobstore.ErrStaleRun
	// ErrUnreadable: the job's record is sealed, and none of the client's keys opens it.
	ErrUnreadable = jobstore.ErrUnreadable
	// ErrUnaccepted: Redis could not be asked, so it is not known whether the job was accepted. To enqueue it again
	// under the same id repeats nothing.
	ErrUnaccepted = errors.New("it is not known whether the job was accepted")
	// ErrUnreplicated: too few replicas are known to have the job. It comes with ErrUnaccepted.
	ErrUnreplicated = jobstore.ErrUnreplicated
	// ErrFull: Redis has no room for new jobs. It comes with ErrUnaccepted: enqueue the job again when there is room.
	ErrFull = errors.New("Redis has no room for new jobs")
)

// Replication is how many replicas must have a job before it counts as accepted.
type Replication = jobstore.Replication

// NoMemoryLimit leaves it to Redis to refuse what it has no room for, the results of running jobs as well.
const NoMemoryLimit = 1

// Config configures a Client. A zero field means its documented default.
type Config struct {
	// Redis is where the jobs are kept. Required. The Client does not close it.
	Redis redis.UniversalClient
	// Catalog says what can be asked for; it must have passed its Validate. Required to enqueue, and for nothing else.
	Catalog *catalog.Catalog
	// Prefix stands before every key of the job records. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// Sealer encrypts what is kept of requests and results. All processes of a deployment need the same keys. Defaults to
	// none.
	Sealer *seal.Sealer
	// Shards is into how many shards the queues are divided, 1 to keyspace.MaxShards. Workers find those of every producer,
	// whatever they are told themselves. Defaults to 1.
	Shards keyspace.Shards
	// Concurrency is how many tasks EnqueueMany hands to asynq at once. On a single Redis server they travel together;
	// on a cluster each needs a connection. Defaults to 256, on a cluster to 32.
	Concurrency int
	// MemoryLimit is the share of Redis' maxmemory from which no job is accepted, with ErrFull; NoMemoryLimit turns it off.
	// Defaults to 0.7.
	MemoryLimit float64
	// Replication is how many replicas must have a job before it is accepted, ErrUnreplicated if they do not within its
	// Timeout. Defaults to none.
	Replication Replication
	// Registerer takes the series that are counted by what the Client is given to: the HTTP API, the inbox, the work on
	// batches. Defaults to none.
	Registerer prometheus.Registerer
	// Log takes what goes wrong beside the jobs: that the activity of this process cannot be written. The zero value
	// discards it.
	Log zerolog.Logger
}

func (c Config) validate() error {
	var errs []error
	if c.Redis == nil {
		errs = append(errs, errors.New("producer: Config.Redis is missing; give it a client of go-redis"))
	}
	if c.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("producer: Config.Concurrency must be at least 1, got %d", c.Concurrency))
	}
	if c.MemoryLimit < 0 || c.MemoryLimit > 1 {
		errs = append(errs, fmt.Errorf("producer: Config.MemoryLimit must be more than 0 and at most 1, got %v", c.MemoryLimit))
	}
	if c.Replication.Replicas < 0 || c.Replication.Replicas > 0 && c.Replication.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("producer: Config.Replication must be some replicas and at least 1ms, got %d and %s", c.Replication.Replicas, c.Replication.Timeout))
	}
	if err := c.Shards.Check(); err != nil {
		errs = append(errs, fmt.Errorf("producer: %w", err))
	}
	return errors.Join(errs...)
}

// Client accepts jobs and reads them. It may be used by any number of goroutines. Its methods return when their
// context ends, even while Redis does not answer.
type Client struct {
	redis       redis.UniversalClient
	catalog     atomic.Pointer[catalog.Catalog]
	store       *jobstore.Store
	queue       *asynq.Client
	inspector   *asynq.Inspector
	concurrency int
	meter       *servers.Meter
	registerer  prometheus.Registerer
	activity    *activity.Recorder
}

// New returns a Client. It sends nothing yet: see Ready.
func New(config Config) (*Client, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	queue, together := envelope.Together(config.Redis)
	if config.Concurrency == 0 {
		config.Concurrency = 32
		if together {
			config.Concurrency = envelope.MostTogether
		}
	}
	var c *Client
	ends, recorder := metrics.NewEnds(config.Registerer), activity.New(config.Redis, keyspace.New(config.Prefix), config.Registerer, config.Log)
	stores := jobstore.Config{
		Redis: config.Redis, Prefix: config.Prefix, Sealer: config.Sealer, Shards: config.Shards, Replication: config.Replication,
		Ended: func(job tasks.Job, status tasks.Status, result tasks.Result) {
			ends.Ended(c.Catalog(), job, status, result)
			recorder.Ended(c.Catalog(), job, status, result)
		},
		Accepted: recorder.Accepted,
	}
	if config.Catalog != nil {
		stores.Replies = jobstore.Replies(config.Catalog.ReplyStreams)
	}
	store, err := jobstore.New(stores)
	if err != nil {
		return nil, err
	}
	c = &Client{
		redis: config.Redis, store: store, registerer: config.Registerer, activity: recorder, concurrency: config.Concurrency,
		meter:     servers.NewMeter(config.Redis, cmp.Or(config.MemoryLimit, servers.DefaultLimit)),
		queue:     asynq.NewClientFromRedisClient(queue),
		inspector: asynq.NewInspectorFromRedisClient(config.Redis),
	}
	c.catalog.Store(config.Catalog)
	return c, nil
}

// Catalog is what can be asked for: Config.Catalog, or that of the last Reload. It must not be changed; whoever needs it
// twice for one thing keeps it.
func (c *Client) Catalog() *catalog.Catalog { return c.catalog.Load() }

// Reload has what is asked for from now on be checked and rendered by another catalog, which must have passed its
// Validate. A Client that was made without one takes none.
func (c *Client) Reload(to *catalog.Catalog) error {
	if to == nil || c.Catalog() == nil {
		return errors.New("producer: reload: there is no catalog, or there was none to begin with")
	}
	c.store.SetReplies(jobstore.Replies(to.ReplyStreams))
	c.catalog.Store(to)
	return nil
}

// Registerer takes the series of those who use the Client: Config.Registerer, which may be nil.
func (c *Client) Registerer() prometheus.Registerer { return c.registerer }

// Redis is where the jobs are kept: Config.Redis.
func (c *Client) Redis() redis.UniversalClient { return c.redis }

// OpenReply reads the field result of an entry of a reply stream, which is sealed where what is kept is; id is the entry's.
func (c *Client) OpenReply(id, text string) (tasks.Result, error) { return c.store.OpenReply(id, text) }

// Sealer is what encrypts what is kept: Config.Sealer.
func (c *Client) Sealer() *seal.Sealer { return c.store.Sealer() }

// Keys are the names of what is kept in Redis.
func (c *Client) Keys() keyspace.Keyspace { return c.store.Keys() }

// Shards is into how many shards the queues are divided: Config.Shards.
func (c *Client) Shards() keyspace.Shards { return c.store.Shards() }

// Close ends every Wait, and writes what is left of the Client's activity (package tasks/activity), for 2 s at most. The
// Redis client stays open.
func (c *Client) Close() error {
	c.activity.Close(context.Background())
	return c.store.Close()
}

// Room returns an ErrFull where Redis has no room for new jobs. It asks Redis about once a second.
func (c *Client) Room(ctx context.Context) error {
	if err := c.meter.Check(ctx); err != nil {
		return fmt.Errorf("%w: %w; give it more memory, or wait until results have passed their retention", ErrFull, err)
	}
	return nil
}

// Ready reports whether Redis answers.
func (c *Client) Ready(ctx context.Context) error {
	_, err := within(ctx, func() (string, error) { return c.redis.Ping(ctx).Result() })
	if err != nil {
		return fmt.Errorf("reach Redis: %w; check its address and that it runs", err)
	}
	return nil
}

// Get reads how a job stands. It answers ErrNotFound for a job that is not there. Of one that is sealed under a key that
// the Client does not have it returns what can be read beside an error that wraps ErrUnreadable.
func (c *Client) Get(ctx context.Context, id string) (tasks.Result, error) {
	return c.read(ctx, id, c.store.Get)
}

// Job reads what a job asks for: the job as it was accepted, its prompt included.
func (c *Client) Job(ctx context.Context, id string) (tasks.Job, error) {
	if err := checkID(id); err != nil {
		return tasks.Job{}, err
	}
	job, err := within(ctx, func() (tasks.Job, error) {
		record, err := c.store.Get(ctx, id)
		if err != nil {
			return tasks.Job{}, err
		}
		return record.Job, nil
	})
	return job, named(id, err)
}

// Wait returns the job's result once it has ended, for as long as ctx lasts. It asks nobody to hurry: waiting for
// thousands of jobs at once is cheap.
func (c *Client) Wait(ctx context.Context, id string) (tasks.Result, error) {
	return c.read(ctx, id, c.store.Wait)
}

func (c *Client) read(ctx context.Context, id string, read func(context.Context, string) (*jobstore.Record, error)) (tasks.Result, error) {
	if err := checkID(id); err != nil {
		return tasks.Result{}, err
	}
	result, err := within(ctx, func() (tasks.Result, error) {
		record, err := read(ctx, id)
		if errors.Is(err, ErrUnreadable) && record != nil { // a wait has read none
			return record.Result(), err
		}
		if err != nil {
			return tasks.Result{}, err
		}
		return c.ResultOf(ctx, record)
	})
	return result, named(id, err)
}

// Cancel ends a job that waits at once, as cancelled. A job that runs is ended by its worker: Cancel returns without
// waiting for that, with the status running, and the job may still succeed if its answer is on its way. A job that
// has ended is returned as it stands.
func (c *Client) Cancel(ctx context.Context, id string) (tasks.Result, error) {
	if err := checkID(id); err != nil {
		return tasks.Result{}, err
	}
	if err := c.cancel(ctx, id, func() (jobstore.CancelReply, error) { return c.store.Cancel(ctx, id, "") }); err != nil {
		return tasks.Result{}, err
	}
	return c.Get(ctx, id)
}

// CodeWithdrawn is the code of a job that was withdrawn.
const CodeWithdrawn = jobstore.CodeWithdrawn

// Withdraw ends a job that waits, as cancelled with CodeWithdrawn: nobody waits for its answer any more. A job that
// runs is left alone, and so is one that has ended.
func (c *Client) Withdraw(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	return c.cancel(ctx, id, func() (jobstore.CancelReply, error) { return c.store.Withdraw(ctx, id) })
}

// cancel ends a job, and takes its task out of the queue.
func (c *Client) cancel(ctx context.Context, id string, end func() (jobstore.CancelReply, error)) error {
	_, err := within(ctx, func() (jobstore.CancelReply, error) {
		reply, err := end()
		if err == nil && reply.Cancelled {
			// A task that stays behind finds the job ended.
			_ = c.inspector.DeleteTask(envelope.Queue(c.store.Keys(), reply.Priority, reply.Shard), envelope.TaskID(id, reply.Run))
		}
		return reply, err
	})
	if err != nil {
		return named(id, err)
	}
	return nil
}

// Reopen runs a job again that failed, was cancelled or expired, with all its retries. What its earlier runs cost
// still counts. A success is ErrSucceeded, a job that has not ended ErrNotEnded. After any other error the job may
// be reopened without a task; enqueueing it as before mends that.
func (c *Client) Reopen(ctx context.Context, id string) (tasks.Result, error) {
	if err := checkID(id); err != nil {
		return tasks.Result{}, err
	}
	return c.reopen(ctx, id, func() (*jobstore.Record, error) { return c.store.Reopen(ctx, id) })
}

// ReopenRun is Reopen for somebody who has seen that a run ended, as in a list: when the job has been reopened since,
// it is ErrStaleRun, so that any number of callers with the same list run every job once.
func (c *Client) ReopenRun(ctx context.Context, id string, run int) (tasks.Result, error) {
	if err := checkID(id); err != nil {
		return tasks.Result{}, err
	}
	return c.reopen(ctx, id, func() (*jobstore.Record, error) { return c.store.ReopenRun(ctx, id, run) })
}

func (c *Client) reopen(ctx context.Context, id string, reopen func() (*jobstore.Record, error)) (tasks.Result, error) {
	record, err := within(ctx, func() (*jobstore.Record, error) {
		record, err := reopen()
		if record == nil {
			return nil, err
		}
		return record, errors.Join(err, c.enqueueTask(ctx, record.Job, record.Shard, record.Run))
	})
	if err != nil {
		return tasks.Result{}, named(id, err)
	}
	return record.Result(), nil
}

func checkID(id string) error {
	if !tasks.ValidID(id) {
		return &tasks.FieldError{Field: "id", Problem: fmt.Sprintf("%.140q is no job's: it must be 1 to 128 characters of A-Z a-z 0-9 _ -", id)}
	}
	return nil
}

// named makes sure that an error says which job it is about. The job store's do.
func named(id string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("job %s: %w; the job goes on, ask for it again", id, err)
	}
	return err
}

// within returns what do returns, or ctx's error as soon as ctx ends: by default, go-redis does not look at a
// context while it reads.
func within[T any](ctx context.Context, do func() (T, error)) (T, error) {
	if ctx.Done() == nil {
		return do()
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := do()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		// An answer that is there goes before the end of the context.
		select {
		case a := <-answers:
			return a.value, a.err
		case <-time.After(5 * time.Millisecond):
		}
		var none T
		return none, ctx.Err()
	}
}
