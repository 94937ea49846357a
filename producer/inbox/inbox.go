// Package inbox is the way in for every language that has a Redis client: it consumes the stream forebay:inbox.
//
//	XADD forebay:inbox * job '{"task_type":"fast_summary","input":"..."}'
//
// Any number of processes may run it; they share the stream as consumers of one group. An entry is acknowledged and
// deleted only when its job is accepted, so that a crash between any two steps repeats a step and loses nothing: a job
// without an id has one of its entry's, and enqueueing a job again under its id repeats nothing. The stream's length is
// the backlog.
//
// What is refused goes into the stream forebay:inbox:rejected, with the reason and the place in its JSON, and is found as
// a failed result under the job's id, if that is free.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/metrics"
)

// Group is the group of all consumers of the inbox.
const Group = "forebay"

// The documented defaults.
const (
	defaultMaxQueued   = 100_000
	defaultMaxRejected = 100_000
	defaultClaimAfter  = 30 * time.Second
)

const (
	// block is how long a read waits for entries. It must be shorter than the client's ReadTimeout.
	block = time.Second
	// fullPause is how soon full queues are looked at again.
	fullPause = 500 * time.Millisecond
	// The waits after an error of Redis, and before what could not be accepted is tried again: doubling. The longest is
	// shorter than claimAfter, so that no other consumer takes what this one keeps trying.
	firstWait   = 100 * time.Millisecond
	longestWait = 10 * time.Second
	// forgetAfter is how long a consumer that has nothing pending has not been heard of when it is forgotten.
	forgetAfter = time.Hour
)

// Config configures an Inbox. A zero field means its documented default.
type Config struct {
	// Redis is the client to use; the Inbox does not close it. Its ReadTimeout must be longer than a second. Required.
	Redis redis.UniversalClient
	// Client accepts the jobs; it must have a catalog, and the same Redis and prefix. Required.
	Client *producer.Client
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// MaxQueued is how many tasks may wait in the queues, or for their next delivery, before the Inbox stops reading;
	// members of batches, which wait in lanes, do not count. Defaults to 100,000.
	MaxQueued int
	// MaxRejected is about how many refusals are kept, the newest. Defaults to 100,000.
	MaxRejected int
	// ClaimAfter is how long another consumer has had entries when it is taken for dead. Defaults to 30s.
	ClaimAfter time.Duration
	// Log takes the Inbox's lines, which hold nothing of a job but its id. The zero value discards them.
	Log zerolog.Logger
}

func (c Config) validate() error {
	var problems []error
	if c.Redis == nil {
		problems = append(problems, errors.New("inbox: Config.Redis is missing; give it a client of go-redis"))
	}
	if c.Client == nil {
		problems = append(problems, errors.New("inbox: Config.Client is missing; give it a producer.Client with a catalog"))
	}
	if c.MaxQueued < 0 {
		problems = append(problems, fmt.Errorf("inbox: max_queued must be at least 1, got %d", c.MaxQueued))
	}
	if c.MaxRejected < 0 {
		problems = append(problems, fmt.Errorf("inbox: max_rejected must be at least 1, got %d", c.MaxRejected))
	}
	if c.ClaimAfter < 0 {
		problems = append(problems, fmt.Errorf("inbox: ClaimAfter must be positive, got %s", c.ClaimAfter))
	}
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	if c.MaxQueued == 0 {
		c.MaxQueued = defaultMaxQueued
	}
	if c.MaxRejected == 0 {
		c.MaxRejected = defaultMaxRejected
	}
	if c.ClaimAfter == 0 {
		c.ClaimAfter = defaultClaimAfter
	}
	return c
}

// Inbox consumes the inbox. It is made by New and used once: Start, then Shutdown; or Run.
type Inbox struct {
	config   Config
	redis    redis.UniversalClient
	client   *producer.Client
	store    *jobstore.Store
	keys     keyspace.Keyspace
	log      zerolog.Logger
	intake   *metrics.Intake
	consumer string
	// apart tells that the two streams may lie in different slots of a cluster.
	apart bool

	// stopping ends when nothing more is to be read, alive when what was read is to be given up.
	stopping context.Context
	stop     context.CancelFunc
	alive    context.Context
	abort    context.CancelFunc
	started  atomic.Bool
	loop     sync.WaitGroup
}

// New returns an Inbox that has not started. It sends nothing yet.
func New(config Config) (*Inbox, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	store, err := jobstore.New(jobstore.Config{
		Redis: config.Redis, Prefix: config.Prefix, Sealer: config.Client.Sealer(), Shards: config.Client.Shards(),
	})
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	n := &Inbox{
		config: config, redis: config.Redis, client: config.Client, store: store, keys: store.Keys(), log: config.Log,
		consumer: uuid.NewString(), intake: metrics.NewIntake(config.Client.Registerer(), metrics.WayInbox),
	}
	_, n.apart = config.Redis.(*redis.ClusterClient)
	n.stopping, n.stop = context.WithCancel(context.Background())
	n.alive, n.abort = context.WithCancel(context.Background())
	return n, nil
}

// Run starts the Inbox, waits for the context to end, and stops: what was read is brought to its end first, for at most
// ten seconds.
func (n *Inbox) Run(ctx context.Context) error {
	if err := n.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it had begun
		}
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return n.Shutdown(end)
}

// Start makes sure that the stream has its group and begins to read. The context bounds the start only.
func (n *Inbox) Start(ctx context.Context) error {
	if !n.started.CompareAndSwap(false, true) {
		return errors.New("inbox: started twice")
	}
	if err := n.makeGroup(ctx); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	n.loop.Go(n.work)
	n.log.Info().Str("stream", n.keys.Inbox()).Str("consumer", n.consumer).Msg("inbox started")
	return nil
}

// Shutdown reads nothing more and brings what was read to its end. When the context ends before, what is left stays
// pending, and another consumer takes it up.
func (n *Inbox) Shutdown(ctx context.Context) error {
	n.stop()
	release := context.AfterFunc(ctx, n.abort)
	defer release()
	done := make(chan struct{})
	go func() {
		n.loop.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("inbox: what was read stays pending and is read again: %w", context.Cause(ctx))
	}
	n.abort()
	if n.started.Load() {
		if err := n.leave(context.WithoutCancel(ctx), n.consumer); err != nil {
			n.log.Warn().Err(err).Msg("the inbox's consumer stays in its group and is forgotten later")
		}
		n.log.Info().Str("consumer", n.consumer).Msg("inbox stopped")
	}
	return n.store.Close()
}

// pause waits, unless the Inbox stops.
func (n *Inbox) pause(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-n.stopping.Done():
	case <-timer.C:
	}
}
