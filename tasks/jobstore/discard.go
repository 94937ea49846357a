package jobstore

import (
	"context"
	_ "embed" // for the script
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var (
	//go:embed discard.lua
	discardSource string

	discardScript = redis.NewScript(discardSource)
)

// Discard deletes the record of a job that has ended, and takes the job out of the index. A job that has not is
// ErrNotEnded. With a run that is not 0 it does so only while that is the job's: one reopened since is ErrStaleRun.
func (s *Store) Discard(ctx context.Context, id string, run int) error {
	const verb = "discard"
	r, err := s.run(ctx, call{verb: verb, id: id, script: discardScript, keys: []string{s.keys.Job(id)}, args: []any{run}})
	if err != nil {
		return err
	}
	if r.word != "ok" {
		return refused(verb, id, r.word)
	}
	pipe := s.redis.Pipeline()
	for _, name := range []string{indexEnded, indexDead} { // not open: the id is free, and may be a new job's by now
		pipe.ZRem(ctx, s.keys.Index(keyspace.IndexShard(id), name), id)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("take job %s, which is discarded, out of the index: %w; the scheduler does it in time", id, err)
	}
	return nil
}
