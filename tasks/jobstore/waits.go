package jobstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Wait is what one job waits for.
type Wait struct {
	ID      string
	Waiting tasks.Waiting
}

// Waits reads what open jobs wait for: of at most about so many of them, evenly over the index. Open is how many there
// are, looked how many were looked at.
func (s *Store) Waits(ctx context.Context, atMost int) (waits []Wait, looked, open int, err error) {
	pipe := s.redis.Pipeline()
	sizes, pages := make([]*redis.IntCmd, keyspace.IndexShards), make([]*redis.StringSliceCmd, keyspace.IndexShards)
	for shard := range sizes {
		key := s.keys.Index(shard, string(SetOpen))
		sizes[shard] = pipe.ZCard(ctx, key)
		pages[shard] = pipe.ZRange(ctx, key, 0, int64(max(1, atMost/keyspace.IndexShards)-1))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, 0, 0, fmt.Errorf("read the index of open jobs: %w", err)
	}
	var ids []string
	for shard := range sizes {
		open += int(sizes[shard].Val())
		ids = append(ids, pages[shard].Val()...)
	}
	pipe = s.redis.Pipeline()
	reads := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		reads[i] = pipe.HGet(ctx, s.keys.Job(id), "waiting")
	}
	if len(ids) > 0 {
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return nil, 0, 0, fmt.Errorf("read what %d jobs wait for: %w", len(ids), err)
		}
	}
	for i, id := range ids {
		wait := Wait{ID: id}
		if encoded, _ := reads[i].Bytes(); len(encoded) > 0 && json.Unmarshal(encoded, &wait.Waiting) == nil {
			waits = append(waits, wait)
		}
	}
	return waits, len(ids), open, nil
}
