package scheduler

import (
	"context"
	"fmt"

	"github.com/forebay-queue/forebay/scheduler/internal/gauges"
	"github.com/forebay-queue/forebay/tasks/fleet"
)

// showDeployment has the Scheduler's registerer show how the deployment stands, until the function it returns is called.
func (s *Scheduler) showDeployment() (end func(), err error) {
	if s.registerer == nil {
		return func() {}, nil
	}
	shown := gauges.New(gauges.Config{
		Redis: s.redis, Store: s.store, Catalog: s.catalog, Workers: s.countWorkers, Leading: s.Leading, Log: s.log,
	})
	if err := s.registerer.Register(shown); err != nil {
		return nil, fmt.Errorf("scheduler: register its metrics: %w", err)
	}
	return func() { s.registerer.Unregister(shown) }, nil
}

// countWorkers counts the processes that do jobs.
func (s *Scheduler) countWorkers(ctx context.Context) (int, error) {
	processes, err := fleet.Read(ctx, s.redis, s.store.Keys())
	alive := 0
	for _, process := range processes {
		if process.Kind.Works() {
			alive++
		}
	}
	return alive, err
}
