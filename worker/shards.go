package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
	"github.com/forebay-queue/forebay/worker/internal/slots"
)

const (
	// lookForShards is how often a worker looks for shards that it does not serve yet: so late at most begins what a producer
	// with another number of shards enqueues.
	lookForShards = 3 * time.Second
	lookTimeout   = 3 * time.Second
	// missedLooks is how often in a row a shard must have been off asynq's list before a worker that was not told of it stops
	// to serve it.
	missedLooks = 2
)

// shard is one of asynq's queues that the Worker serves: an asynq server with the client behind it.
type shard struct {
	of     envelope.ShardOfQueue
	client *asynqredis.Client
	server *asynq.Server
	// missed is how often in a row it was not found.
	missed int
}

// stop takes nothing new and waits for what runs.
func (s *shard) stop() error {
	s.client.Stop()
	s.server.Shutdown()
	return s.client.Close()
}

// shards are the queues that a Worker serves. The zero value is ready.
type shards struct {
	mutex  sync.Mutex
	served []*shard
	closed bool
}

// close returns all that are served; there will be no others.
func (s *shards) close() []*shard {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closed = true
	return s.served
}

// way is how a queue gets its slots: all its shards together. Size is how many there are in all.
type way struct {
	lane *slots.Lane
	size int
}

// serveShards serves the queues of the deployment: those that it is told of, and those that others have enqueued into. One
// that is served and found no longer is let go.
func (w *Worker) serveShards(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found, err := envelope.FindShards(ctx, w.redis, w.store.Keys(), w.config.Shards)
	if err != nil {
		return err
	}
	w.shards.mutex.Lock()
	defer w.shards.mutex.Unlock()
	if w.shards.closed {
		return nil
	}
	for _, of := range found {
		at := slices.IndexFunc(w.shards.served, func(s *shard) bool { return s.of.Name == of.Name })
		if at >= 0 {
			w.shards.served[at].missed = -1
		} else if err := w.serve(of); err != nil {
			return err
		}
	}
	w.shards.served = slices.DeleteFunc(w.shards.served, func(s *shard) bool {
		if s.missed++; s.missed < missedLooks {
			return false
		}
		w.log.Info().Str("queue", s.of.Name).Msg("a shard of a queue is served no longer; it was empty")
		w.background.Go(func() { _ = s.stop() })
		return true
	})
	return nil
}

// serve begins to serve a queue.
func (w *Worker) serve(of envelope.ShardOfQueue) error {
	by := w.ways[of.Queue]
	client, err := asynqredis.New(asynqredis.Config{Client: w.redis, Queue: of.Name, Lane: by.lane, Log: w.log})
	if err != nil {
		return fmt.Errorf("queue %s: %w", of.Name, err)
	}
	s := &shard{of: of, client: client, server: asynq.NewServerFromRedisClient(client, w.serverConfig(of.Name, by.size)), missed: -1}
	if err := s.server.Start(client.Handler(w)); err != nil {
		return fmt.Errorf("queue %s: %w", of.Name, err)
	}
	w.shards.served = append(w.shards.served, s)
	if !w.config.Shards.Has(of.Shard) {
		w.log.Info().Str("queue", of.Name).Int("shards", max(int(w.config.Shards), 1)).
			Msg("serving a shard beyond the configured number, in which something was enqueued")
	}
	return nil
}

// followShards looks for new shards until the Worker stops. While Redis is away nothing changes.
func (w *Worker) followShards() {
	ticker := time.NewTicker(lookForShards)
	defer ticker.Stop()
	for {
		select {
		case <-w.stopping:
			return
		case <-ticker.C:
		}
		if err := w.serveShards(w.alive); err != nil && w.alive.Err() == nil && !outage(err) {
			w.log.Error().Err(err).Msg("the worker could not look for shards of its queues")
		}
	}
}

// stopShards stops all that is served: first all take nothing new, then it waits for what runs.
func (w *Worker) stopShards() (problems []error) {
	served := w.shards.close()
	together := func(do func(*shard)) {
		var group sync.WaitGroup
		for _, s := range served {
			group.Go(func() { do(s) })
		}
		group.Wait()
	}
	together(func(s *shard) { s.client.Stop() })
	together(func(s *shard) { s.server.Shutdown() })
	for _, s := range served {
		problems = append(problems, s.client.Close())
	}
	return problems
}

// Connections is how large the pool of Config.Redis should be for so many slots of jobs and of webhooks: beside the
// deliveries, the server of each shard of each queue uses two.
func Connections(slots, webhooks int, shards keyspace.Shards) int {
	return slots + 2*webhooks + 2*len(envelope.ShardsOf(keyspace.New(""), shards)) + 4
}
