package scheduler

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/scheduler/internal/gauges"
)

// showDeployment has the Scheduler's registerer show how the deployment stands, until the function it returns is called.
func (s *Scheduler) showDeployment() (end func(), err error) {
	if s.config.Registerer == nil {
		return func() {}, nil
	}
	shown := gauges.New(gauges.Config{
		Redis: s.redis, Store: s.store, Catalog: s.config.Catalog, Workers: s.countWorkers, Leading: s.Leading, Log: s.log,
	})
	if err := s.config.Registerer.Register(shown); err != nil {
		return nil, fmt.Errorf("scheduler: register its metrics: %w", err)
	}
	return func() { s.config.Registerer.Unregister(shown) }, nil
}

// countWorkers counts the liveness keys that have not expired.
func (s *Scheduler) countWorkers(ctx context.Context) (int, error) {
	var alive atomic.Int64
	count := func(ctx context.Context, node *redis.Client) error {
		found := map[string]bool{} // SCAN may show a key twice
		keys := node.Scan(ctx, 0, s.store.Keys().Workers(), 10_000).Iterator()
		for keys.Next(ctx) {
			found[keys.Val()] = true
		}
		alive.Add(int64(len(found)))
		return keys.Err()
	}
	var err error
	switch client := s.redis.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, count)
	case *redis.Client:
		err = count(ctx, client)
	default:
		err = fmt.Errorf("a client of the type %T cannot be searched", client)
	}
	if err != nil {
		return 0, fmt.Errorf("count the workers in Redis: %w", err)
	}
	return int(alive.Load()), nil
}
