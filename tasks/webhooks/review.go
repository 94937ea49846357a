package webhooks

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Glance is what is read of a record when many are looked at.
type Glance struct {
	ID string
	// Cycle is the one whose task is to be in the queue.
	Cycle int
	// Shard is that of the queue.
	Shard keyspace.Shard
}

// Pending reads a page of the list of pending webhooks, the oldest first, beginning at a rank, and how many it held. Those
// that have ended are put into their own lists instead, and those without a record taken out: the next page begins behind
// the glances that were returned.
func (s *Store) Pending(ctx context.Context, rank, count int) (glances []Glance, held int, err error) {
	entries, err := s.redis.ZRangeWithScores(ctx, s.keys.Webhooks("pending", ""), int64(rank), int64(rank+count-1)).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("list the pending webhooks: %w", err)
	}
	if len(entries) == 0 {
		return nil, 0, nil
	}
	pipe := s.redis.Pipeline()
	reads := make([]*redis.SliceCmd, len(entries))
	for i, entry := range entries {
		reads[i] = pipe.HMGet(ctx, s.keys.Webhook(fmt.Sprint(entry.Member)), "state", "cycle", "shard")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, 0, fmt.Errorf("look at %d webhooks: %w", len(entries), err)
	}
	for i, entry := range entries {
		id := fmt.Sprint(entry.Member)
		state, _ := reads[i].Val()[0].(string)
		cycle, _ := reads[i].Val()[1].(string)
		shard, _ := reads[i].Val()[2].(string)
		switch State(state) {
		case Pending:
			p := parser{id: id, fields: map[string]string{"cycle": cycle}}
			glances = append(glances, Glance{ID: id, Cycle: int(p.number("cycle")), Shard: keyspace.Shard(shard)})
			err = p.err
		case "":
			if time.Since(time.UnixMilli(int64(entry.Score))) > goneAfter {
				err = s.forget(ctx, "", []any{entry.Member})
			}
		default:
			err = s.reindex(ctx, id)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return glances, len(entries), nil
}

// reindex puts a webhook into the lists of its state: whoever changed that died before.
func (s *Store) reindex(ctx context.Context, id string) error {
	record, err := s.Get(ctx, id, "")
	if err != nil {
		return err
	}
	return s.Index(ctx, record)
}
