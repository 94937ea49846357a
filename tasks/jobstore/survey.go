package jobstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Set is one of the index's sets of ids.
type Set string

// The sets of the index.
const (
	SetOpen  Set = indexOpen
	SetEnded Set = indexEnded
	SetDead  Set = indexDead
)

// Glance is what is read of a record when many are looked at.
type Glance struct {
	ID string
	// Status is empty where there is no record.
	Status     tasks.Status
	Run        int
	Priority   tasks.Priority
	Shard      keyspace.Shard
	Worker     string
	Deliveries int
}

// Held tells that a worker has the job, if it lives.
func (g Glance) Held() bool { return g.Status == tasks.StatusRunning }

// Survey glances at records, in one round trip. The answer is as long as ids.
func (s *Store) Survey(ctx context.Context, ids []string) ([]Glance, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := s.redis.Pipeline()
	reads := make([]*redis.SliceCmd, len(ids))
	for i, id := range ids {
		reads[i] = pipe.HMGet(ctx, s.keys.Job(id), "status", "run", "priority", "worker", "deliveries", "shard")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("survey %d jobs: %w", len(ids), err)
	}
	glances := make([]Glance, len(ids))
	for i, id := range ids {
		text := func(field int) string {
			value, _ := reads[i].Val()[field].(string)
			return value
		}
		glances[i] = Glance{ID: id, Status: tasks.Status(text(0)), Priority: tasks.Priority(text(2)), Worker: text(3), Shard: keyspace.Shard(text(5))}
		// What is no number is 0: the record's reader names the field when somebody reads all of it.
		glances[i].Run, _ = strconv.Atoi(text(1))
		glances[i].Deliveries, _ = strconv.Atoi(text(4))
	}
	return glances, nil
}

// Page reads up to count ids of a shard's set, in the order of their scores, from a place on (from 0). The places
// move as the set changes: who walks through it may miss some, and meets them the next time.
func (s *Store) Page(ctx context.Context, shard int, set Set, from, count int) ([]string, error) {
	ids, err := s.redis.ZRange(ctx, s.keys.Index(shard, string(set)), int64(from), int64(from+count-1)).Result()
	if err != nil {
		return nil, fmt.Errorf("read shard %d of the index %s: %w", shard, set, err)
	}
	return ids, nil
}

// Overdue reads up to count ids of open jobs in each shard whose deadline was before a time, the oldest first.
func (s *Store) Overdue(ctx context.Context, before time.Time, count int) ([]string, error) {
	pipe := s.redis.Pipeline()
	var reads []*redis.StringSliceCmd
	for shard := range keyspace.IndexShards {
		reads = append(reads, pipe.ZRangeByScore(ctx, s.keys.Index(shard, indexOpen), &redis.ZRangeBy{
			Min: "-inf", Max: strconv.FormatInt(before.UnixMilli(), 10), Count: int64(count),
		}))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("look for jobs past their deadline: %w", err)
	}
	var ids []string
	for _, read := range reads {
		ids = append(ids, read.Val()...)
	}
	return ids, nil
}

// MendIndex puts a job where its record says, and takes one without a record out of the index. A record that changes
// at the same time is looked at once more, so that the index follows what stands last.
func (s *Store) MendIndex(ctx context.Context, id string) error {
	var last *Record
	for range maxRereads {
		record, err := s.Get(ctx, id)
		gone := errors.Is(err, ErrNotFound)
		switch {
		case err != nil && !gone:
			return err
		case last != nil && record != nil && record.Status == last.Status && record.Run == last.Run:
			return nil
		case gone && last != nil && last.Status == "":
			return nil
		case gone:
			last, err = &Record{}, s.unindex(ctx, id)
		default:
			last, err = record, s.Reindex(ctx, record)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("index job %s: its record changed %d times meanwhile; it is looked at again", id, maxRereads)
}

// Postpone has an open job found by Overdue no sooner than at a time.
func (s *Store) Postpone(ctx context.Context, id string, until time.Time) error {
	err := s.redis.ZAddXX(ctx, s.keys.Index(keyspace.IndexShard(id), indexOpen), redis.Z{Score: float64(until.UnixMilli()), Member: id}).Err()
	if err != nil {
		return fmt.Errorf("index job %s: %w", id, err)
	}
	return nil
}

// WorkersAlive tells of each worker whether it has been heard of within its time.
func (s *Store) WorkersAlive(ctx context.Context, workers []string) (map[string]bool, error) {
	alive := make(map[string]bool, len(workers))
	if len(workers) == 0 {
		return alive, nil
	}
	pipe := s.redis.Pipeline()
	found := make(map[string]*redis.IntCmd, len(workers))
	for _, worker := range workers {
		if found[worker] == nil && worker != "" {
			found[worker] = pipe.Exists(ctx, s.keys.Worker(worker))
		}
	}
	if len(found) == 0 {
		return alive, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("look for %d workers: %w", len(found), err)
	}
	for worker, cmd := range found {
		alive[worker] = cmd.Val() == 1
	}
	return alive, nil
}
