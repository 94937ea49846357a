package jobstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Wait is what one job waits for.
type Wait struct {
	ID       string
	Run      int
	Priority tasks.Priority
	Shard    keyspace.Shard
	Waiting  tasks.Waiting
}

// Open counts the jobs that have not ended.
func (s *Store) Open(ctx context.Context) (int64, error) {
	pipe := s.redis.Pipeline()
	sizes := make([]*redis.IntCmd, keyspace.IndexShards)
	for shard := range sizes {
		sizes[shard] = pipe.ZCard(ctx, s.keys.Index(shard, string(SetOpen)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("count the open jobs in Redis: %w", err)
	}
	var open int64
	for _, size := range sizes {
		open += size.Val()
	}
	return open, nil
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
	reads := make([]*redis.SliceCmd, len(ids))
	for i, id := range ids {
		reads[i] = pipe.HMGet(ctx, s.keys.Job(id), "waiting", "run", "priority", "shard")
	}
	if len(ids) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, 0, 0, fmt.Errorf("read what %d jobs wait for: %w", len(ids), err)
		}
	}
	for i, id := range ids {
		encoded, _ := reads[i].Val()[0].(string)
		run, _ := reads[i].Val()[1].(string)
		priority, _ := reads[i].Val()[2].(string)
		shard, _ := reads[i].Val()[3].(string)
		wait := Wait{ID: id, Priority: tasks.Priority(priority), Shard: keyspace.Shard(shard)}
		wait.Run, _ = strconv.Atoi(run) // what is no number is 0: the record's reader names the field
		if encoded != "" && json.Unmarshal([]byte(encoded), &wait.Waiting) == nil {
			waits = append(waits, wait)
		}
	}
	return waits, len(ids), open, nil
}
