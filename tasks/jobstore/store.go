package jobstore

import (
	"cmp"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// Config configures a Store.
type Config struct {
	// Redis reads, writes the index, and subscribes. Required. The Store does not close it.
	Redis redis.UniversalClient
	// Pipe runs the scripts: a client that merges the commands of concurrent jobs, where there is one (a deferred
	// AutoPipeliner of go-redis; every script bears being executed again). Defaults to Redis.
	Pipe redis.Cmdable
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// Replies is how long results stay in reply streams.
	Replies Replies
	// Sealer encrypts what records hold of requests and results. All processes of a deployment need the same keys. Defaults
	// to none: records are plain.
	Sealer *seal.Sealer
	// Replication is what AwaitReplicas waits for. Defaults to nothing.
	Replication Replication
	// Shards is into how many shards the queues of new jobs and webhooks are divided. Defaults to 1.
	Shards keyspace.Shards
	// Ended is told of every end of an accepted job that this Store has written. Defaults to nobody.
	Ended func(job tasks.Job, status tasks.Status, result tasks.Result)
	// Accepted is told how many jobs were new among those that were created together. Defaults to nobody.
	Accepted func(jobs int)
	// Abandoned is told of every attempt that this Store has ended because its worker is gone. Defaults to nobody.
	Abandoned func(attempt tasks.Attempt)
}

// Store reads and writes the records of jobs. It may be used by any number of goroutines.
type Store struct {
	redis redis.UniversalClient
	pipe  redis.Cmdable
	keys  keyspace.Keyspace
	// shards is where the tasks of new jobs go; those of others go where their records say.
	shards keyspace.Shards
	hub    *hub
	// sealer is nil where records are plain.
	sealer  *seal.Sealer
	barrier *barrier
	// trips are nil where every job needs a script of its own.
	trips    *trips
	batches  *batches.Store
	webhooks *webhooks.Store
	replies  atomic.Pointer[Replies]
	ended    func(job tasks.Job, status tasks.Status, result tasks.Result)
	accepted func(jobs int)
	abandons func(attempt tasks.Attempt)

	sealing sync.Mutex
	seal    cipher.AEAD // of tenants' cursors; nil until one is needed
}

// New returns a Store. It sends nothing yet.
func New(config Config) (*Store, error) {
	if config.Redis == nil {
		return nil, errors.New("job store: Config.Redis is missing; give it a client of go-redis")
	}
	if err := config.Shards.Check(); err != nil {
		return nil, fmt.Errorf("job store: %w", err)
	}
	if config.Pipe == nil {
		config.Pipe = config.Redis
	}
	members, err := batches.New(batches.Config{Redis: config.Redis, Prefix: config.Prefix, Sealer: config.Sealer, Shards: config.Shards})
	if err != nil {
		return nil, err
	}
	hooks, err := webhooks.New(webhooks.Config{Redis: config.Redis, Prefix: config.Prefix, Sealer: config.Sealer, Shards: config.Shards})
	if err != nil {
		return nil, err
	}
	if config.Ended == nil {
		config.Ended = func(tasks.Job, tasks.Status, tasks.Result) {}
	}
	if config.Accepted == nil {
		config.Accepted = func(int) {}
	}
	if config.Abandoned == nil {
		config.Abandoned = func(tasks.Attempt) {}
	}
	s := &Store{
		redis: config.Redis, pipe: config.Pipe,
		keys: keyspace.New(config.Prefix), shards: config.Shards,
		hub: newHub(config.Redis, keyspace.New(config.Prefix).Silence()),

		sealer:  config.Sealer,
		barrier: newBarrier(config.Redis, config.Replication),
		trips:   newTrips(config.Redis),
		batches: members, webhooks: hooks, ended: config.Ended, accepted: config.Accepted, abandons: config.Abandoned,
	}
	s.SetReplies(config.Replies)
	return s, nil
}

// SetReplies says anew how long results stay in reply streams.
func (s *Store) SetReplies(replies Replies) {
	replies.MaxLen = cmp.Or(replies.MaxLen, defaultReplies)
	replies.MaxAge = cmp.Or(replies.MaxAge, defaultReplyAge)
	s.replies.Store(&replies)
}

// Keys are the keys of the Store's deployment.
func (s *Store) Keys() keyspace.Keyspace { return s.keys }

// Shards is into how many shards the queues of new jobs are divided: Config.Shards.
func (s *Store) Shards() keyspace.Shards { return s.shards }

// Sealer is what encrypts records: Config.Sealer.
func (s *Store) Sealer() *seal.Sealer { return s.sealer }

// Load loads all scripts into the server, so that pipelines meet none that is unknown. It need not be called: a
// script that the server does not know, or no longer, is sent again in full.
func (s *Store) Load(ctx context.Context) error {
	for _, script := range []*redis.Script{
		createScript, startScript, beginScript, endScript, orphanScript, commitScript, giveBackScript, cancelScript,
		reopenScript, refuseScript, listScript, discardScript, sitOutScript, releaseScript, reapScript,
		handedScript, toldScript,
	} {
		if err := script.Load(ctx, s.redis).Err(); err != nil {
			return fmt.Errorf("load the scripts of the job store: %w", err)
		}
	}
	return nil
}

// Close ends every Wait with ErrClosed. The client stays open.
func (s *Store) Close() error {
	s.hub.close()
	return nil
}
