package jobstore

import (
	"context"
	"fmt"
	"time"
)

// Heartbeat says that a worker lives. The key expires after ttl, unless the next heartbeat comes before.
func (s *Store) Heartbeat(ctx context.Context, worker string, ttl time.Duration) error {
	if err := s.redis.Set(ctx, s.keys.Worker(worker), formatTime(time.Now()), ttl).Err(); err != nil {
		return fmt.Errorf("heartbeat of worker %s: %w", worker, err)
	}
	return nil
}

// Farewell says that a worker has ended: its open attempts, if any, are nobody's from now on.
func (s *Store) Farewell(ctx context.Context, worker string) error {
	if err := s.redis.Del(ctx, s.keys.Worker(worker)).Err(); err != nil {
		return fmt.Errorf("farewell of worker %s: %w", worker, err)
	}
	return nil
}

// WorkerAlive reports whether the worker has been heard of within its time.
func (s *Store) WorkerAlive(ctx context.Context, worker string) (bool, error) {
	found, err := s.redis.Exists(ctx, s.keys.Worker(worker)).Result()
	if err != nil {
		return false, fmt.Errorf("look for worker %s: %w", worker, err)
	}
	return found == 1, nil
}
