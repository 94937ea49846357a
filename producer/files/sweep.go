package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// sweptTogether is how many files one sweep looks at in a round.
const sweptTogether = 100

// Delete deletes a file that a tenant sees. Who reads it may read on, where the storage lets them.
func (s *Store) Delete(ctx context.Context, id, tenant string) error {
	file, err := s.Get(ctx, id, tenant)
	if err != nil {
		return err
	}
	return s.remove(ctx, id, file.Tenant)
}

// remove takes everything of a file away. The bytes go first, and what leads to them last: what is interrupted is done
// again by the sweep. A reader meanwhile is told that the file is not there, or that it cannot be read.
func (s *Store) remove(ctx context.Context, id, tenant string) error {
	if err := s.removeBytes(ctx, id); err != nil {
		return err
	}
	err := s.redis.Del(ctx, s.keys.File(id)).Err()
	if err == nil {
		_, err = s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.ZRem(ctx, s.keys.Files(), id)
			if tenant != "" {
				pipe.ZRem(ctx, s.keys.TenantFiles(tenant), id)
			}
			return nil
		})
	}
	if err == nil {
		err = s.redis.ZRem(ctx, s.keys.FilesExpiring(), id).Err()
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	return nil
}

// removeBytes deletes whatever is there of a file, also what a crash has left half-written beside it.
func (s *Store) removeBytes(ctx context.Context, id string) error {
	if !ValidID(id) { // as a prefix it would mean others, too
		return fmt.Errorf("delete %.60q: %w", id, ErrNotFound)
	}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	list := bucket.List(&blob.ListOptions{Prefix: blobKey(id)})
	for {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = bucket.Delete(ctx, object.Key)
		}
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return fmt.Errorf("%w cannot delete %s: %w", ErrStorage, id, err)
		}
		if object == nil { // the folder is not there yet
			return nil
		}
	}
}

// Sweep deletes what has expired, and what crashes have left. Any number of processes may sweep at the same time. It
// returns how many files it has taken away.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	swept := 0
	for {
		now := time.Now()
		due, err := s.redis.ZRangeByScore(ctx, s.keys.FilesExpiring(), &redis.ZRangeBy{
			Min: "-inf", Max: strconv.FormatInt(now.UnixMilli(), 10), Count: sweptTogether,
		}).Result()
		if err != nil {
			return swept, fmt.Errorf("look for files that have expired: %w", err)
		}
		for _, id := range due {
			gone, err := s.sweep(ctx, id, now)
			if err != nil {
				return swept, err
			}
			if gone {
				swept++
			}
		}
		if len(due) < sweptTogether {
			return swept, nil
		}
	}
}

// sweep looks at one file that is due. One that was written down, but not to its end, is written down again.
func (s *Store) sweep(ctx context.Context, id string, now time.Time) (gone bool, err error) {
	text, err := s.redis.Get(ctx, s.keys.File(id)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("look at %s: %w", id, err)
	}
	var file File
	if err == nil {
		if file, err = decode(id, text); err == nil && now.Before(file.ExpiresAt) {
			return false, s.index(ctx, file)
		}
	}
	return true, s.remove(ctx, id, file.Tenant)
}
