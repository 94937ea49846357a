package files

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxListed is how many files a list may ask for.
const MaxListed = 10_000

// readTogether is how many files are read in one round trip.
const readTogether = 500

// Query says which files a list has.
type Query struct {
	// Tenant is whose; "" is everybody's.
	Tenant string
	// Purpose is what for; "" is any.
	Purpose string
	// After is the id at which the page before ended; "" begins.
	After string
	// OldestFirst turns the order around.
	OldestFirst bool
	// Limit is how many, 1 to MaxListed.
	Limit int
}

// List reads a page of files, and tells whether there are more.
func (s *Store) List(ctx context.Context, query Query) (list []File, more bool, err error) {
	key := s.keys.Files()
	if query.Tenant != "" {
		key = s.keys.TenantFiles(query.Tenant)
	}
	after := query.After
	for {
		ids, err := s.idsAfter(ctx, key, after, query.OldestFirst, min(query.Limit-len(list)+1, readTogether))
		if err != nil {
			return nil, false, fmt.Errorf("list the files: %w", err)
		}
		if len(ids) == 0 {
			return list, false, nil
		}
		after = ids[len(ids)-1]
		found, err := s.read(ctx, ids)
		if err != nil {
			return nil, false, fmt.Errorf("list the files: %w", err)
		}
		now := time.Now()
		for _, file := range found {
			if !file.shown(query.Tenant, now) || (query.Purpose != "" && file.Purpose != query.Purpose) {
				continue
			}
			if len(list) == query.Limit {
				return list, true, nil
			}
			list = append(list, file)
		}
	}
}

func (s *Store) idsAfter(ctx context.Context, key, after string, oldestFirst bool, count int) ([]string, error) {
	by := &redis.ZRangeBy{Min: "-", Max: "+", Count: int64(count)}
	if oldestFirst {
		if after != "" {
			by.Min = "(" + after
		}
		return s.redis.ZRangeByLex(ctx, key, by).Result()
	}
	if after != "" {
		by.Max = "(" + after
	}
	return s.redis.ZRevRangeByLex(ctx, key, by).Result()
}

// read reads what is known of files, in their order; those that have gone are left out.
func (s *Store) read(ctx context.Context, ids []string) ([]File, error) {
	replies := make([]*redis.StringCmd, len(ids))
	_, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = pipe.Get(ctx, s.keys.File(id))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	found := make([]File, 0, len(ids))
	for i, reply := range replies {
		text, err := reply.Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if file, err := decode(ids[i], text); err == nil {
			found = append(found, file)
		}
	}
	return found, nil
}
