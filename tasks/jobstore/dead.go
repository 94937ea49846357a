package jobstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Dead is how many jobs have failed and were neither reopened nor discarded since. They are kept until somebody does
// either.
type Dead struct {
	Count int `json:"count"`
	// OldestAt is when the oldest of them failed, and Oldest its id; empty where there is none.
	OldestAt *time.Time `json:"oldest_at,omitempty"`
	Oldest   string     `json:"oldest,omitempty"`
}

// Dead counts the jobs that have failed.
func (s *Store) Dead(ctx context.Context) (Dead, error) {
	pipe := s.redis.Pipeline()
	counts := make([]*redis.IntCmd, keyspace.IndexShards)
	oldest := make([]*redis.ZSliceCmd, keyspace.IndexShards)
	for shard := range counts {
		set := s.keys.Index(shard, indexDead)
		counts[shard], oldest[shard] = pipe.ZCard(ctx, set), pipe.ZRangeWithScores(ctx, set, 0, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return Dead{}, fmt.Errorf("count the dead jobs in Redis: %w", err)
	}
	var dead Dead
	for shard := range counts {
		dead.Count += int(counts[shard].Val())
		for _, first := range oldest[shard].Val() {
			at := time.UnixMilli(int64(first.Score)).UTC()
			if dead.OldestAt == nil || at.Before(*dead.OldestAt) {
				dead.OldestAt, dead.Oldest = &at, first.Member.(string) //nolint:forcetypeassert // go-redis reads members as strings
			}
		}
	}
	return dead, nil
}
