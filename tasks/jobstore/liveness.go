package jobstore

import (
	"context"
	"fmt"
)

// WorkerAlive reports whether the worker has been heard of within its time: see package fleet.
func (s *Store) WorkerAlive(ctx context.Context, worker string) (bool, error) {
	found, err := s.redis.Exists(ctx, s.keys.Worker(worker)).Result()
	if err != nil {
		return false, fmt.Errorf("look for worker %s: %w", worker, err)
	}
	return found == 1, nil
}
