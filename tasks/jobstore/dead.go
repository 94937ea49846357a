package jobstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// Dead is how many dead letters there are: jobs that have failed and were neither reopened nor discarded since, or webhooks
// that were given up. They are kept until somebody does either.
type Dead struct {
	Count int `json:"count"`
	// OldestAt is when the oldest job failed, or when that happened of which the oldest webhook tells; nil where there is
	// none. Oldest is the job's id.
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

// DeadWebhooks counts the webhooks that were given up.
func (s *Store) DeadWebhooks(ctx context.Context) (Dead, error) {
	count, oldest, err := s.webhooks.Count(ctx, webhooks.Dead, "")
	dead := Dead{Count: int(count)}
	if !oldest.IsZero() {
		dead.OldestAt = &oldest
	}
	return dead, err
}
