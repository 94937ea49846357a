package batches

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxListLimit is how many batches a List has at most.
const MaxListLimit = 1000

// ErrUnknownAfter says that the batch behind which a list is to go on is not in it.
var ErrUnknownAfter = errors.New("the list has no such batch to go on behind")

// List reads up to limit batches of a tenant, or of all with an empty one, the newest first, and whether there are more.
// It goes on behind the batch named by after, where that is not empty.
func (s *Store) List(ctx context.Context, tenant, after string, limit int) (list []Batch, more bool, err error) {
	limit = max(1, min(limit, MaxListLimit))
	key, from := s.keys.Batches(tenant), int64(0)
	if after != "" {
		rank, err := s.redis.ZRevRank(ctx, key, after).Result()
		if errors.Is(err, redis.Nil) {
			return nil, false, fmt.Errorf("list the batches after %.80s: %w", after, ErrUnknownAfter)
		}
		if err != nil {
			return nil, false, fmt.Errorf("list the batches: %w", err)
		}
		from = rank + 1
	}
	for len(list) <= limit {
		entries, err := s.redis.ZRevRangeWithScores(ctx, key, from, from+int64(limit)).Result()
		if err != nil {
			return nil, false, fmt.Errorf("list the batches: %w", err)
		}
		if len(entries) == 0 {
			break
		}
		found, gone, err := s.readAll(ctx, entries)
		if err != nil {
			return nil, false, err
		}
		if err := s.forget(ctx, tenant, gone...); err != nil {
			return nil, false, err
		}
		list, from = append(list, found...), from+int64(len(entries)-len(gone))
	}
	if len(list) > limit {
		return list[:limit], true, nil
	}
	return list, false, nil
}

// readAll reads batches, in one round trip, and tells which are known no longer.
func (s *Store) readAll(ctx context.Context, entries []redis.Z) (list []Batch, gone []any, err error) {
	pipe := s.redis.Pipeline()
	reads := make([]*redis.MapStringStringCmd, len(entries))
	for i, entry := range entries {
		reads[i] = pipe.HGetAll(ctx, s.keys.Batch(fmt.Sprint(entry.Member)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, nil, fmt.Errorf("read %d batches: %w", len(entries), err)
	}
	for i, entry := range entries {
		fields := reads[i].Val()
		if fields["status"] == "" {
			// One that is being created stands in the lists first.
			if created := time.UnixMilli(int64(entry.Score)); time.Since(created) > time.Minute {
				gone = append(gone, entry.Member)
			}
			continue
		}
		b, err := s.parse(fmt.Sprint(entry.Member), fields)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, b)
	}
	return list, gone, nil
}

// forget takes batches that are known no longer out of the lists.
func (s *Store) forget(ctx context.Context, tenant string, ids ...any) error {
	if len(ids) == 0 {
		return nil
	}
	pipe := s.redis.Pipeline()
	for _, list := range []string{s.keys.Batches(""), s.keys.Batches(tenant), s.keys.OpenBatches()} {
		pipe.ZRem(ctx, list, ids...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("take batches that are known no longer out of the lists: %w", err)
	}
	return nil
}

// Overlook takes batches out of the list of open ones of which nothing is known.
func (s *Store) Overlook(ctx context.Context) error {
	entries, err := s.redis.ZRangeWithScores(ctx, s.keys.OpenBatches(), 0, -1).Result()
	if err != nil {
		return fmt.Errorf("list the open batches: %w", err)
	}
	_, gone, err := s.readAll(ctx, entries)
	if err != nil {
		return err
	}
	return s.forget(ctx, "", gone...)
}

// Open are the ids of the batches that have not ended, or whose end has not been told, the oldest first.
func (s *Store) Open(ctx context.Context) ([]string, error) {
	ids, err := s.redis.ZRange(ctx, s.keys.OpenBatches(), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list the open batches: %w", err)
	}
	return ids, nil
}
