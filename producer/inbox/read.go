package inbox

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// firstEntry is before every entry of a stream.
const firstEntry = "0-0"

// makeGroup makes sure that the stream has its group, which reads it from its beginning.
func (n *Inbox) makeGroup(ctx context.Context) error {
	err := n.redis.XGroupCreateMkStream(ctx, n.keys.Inbox(), Group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return fmt.Errorf("create the group %s of the stream %s: %w", Group, n.keys.Inbox(), err)
	}
	return nil
}

// readNew reads entries that no consumer has, and waits for one.
func (n *Inbox) readNew(ctx context.Context, count int, wait time.Duration) ([]entry, error) {
	return n.readGroup(ctx, ">", "COUNT", count, "BLOCK", wait.Milliseconds())
}

// readPending reads entries that this consumer has and has not brought to their end, those behind the given one.
func (n *Inbox) readPending(ctx context.Context, after string, count int) ([]entry, error) {
	return n.readGroup(ctx, after, "COUNT", count)
}

// readGroup does what XReadGroup of go-redis does, and keeps the fields of an entry as they stand: that one makes a map
// of them, in which of two that have one name the first is lost.
func (n *Inbox) readGroup(ctx context.Context, from string, options ...any) ([]entry, error) {
	args := append([]any{"XREADGROUP", "GROUP", Group, n.consumer}, options...)
	cmd := redis.NewCmd(ctx, append(args, "STREAMS", n.keys.Inbox(), from)...)
	cmd.SetFirstKeyPos(int8(len(args) + 1))
	err := n.redis.Process(ctx, once{cmd})
	if err == redis.Nil { //nolint:errorlint // go-redis returns it as it is, for a read that found nothing
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	switch reply := cmd.Val().(type) {
	case map[any]any: // RESP3
		return parseEntries(reply[n.keys.Inbox()])
	case []any:
		for _, stream := range reply {
			if pair, ok := stream.([]any); ok && len(pair) == 2 {
				return parseEntries(pair[1])
			}
		}
	}
	return nil, fmt.Errorf("read the inbox: Redis answered %T", cmd.Val())
}

// claimAbandoned takes over entries that a consumer has had for long, from the given one on, and says where to go on.
func (n *Inbox) claimAbandoned(ctx context.Context, from string, count int) ([]entry, string, error) {
	cmd := redis.NewCmd(ctx, "XAUTOCLAIM", n.keys.Inbox(), Group, n.consumer, n.config.ClaimAfter.Milliseconds(), from, "COUNT", count)
	if err := n.redis.Process(ctx, once{cmd}); err != nil {
		return nil, from, fmt.Errorf("take over what dead consumers of the inbox left: %w", err)
	}
	reply, ok := cmd.Val().([]any)
	if !ok || len(reply) < 2 {
		return nil, from, fmt.Errorf("take over what dead consumers of the inbox left: Redis answered %T", cmd.Val())
	}
	next, _ := reply[0].(string)
	entries, err := parseEntries(reply[1])
	return entries, next, err
}

// parseEntries reads a list of entries, each its id and its fields.
func parseEntries(reply any) ([]entry, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("read the inbox: Redis answered %T for a list of entries", reply)
	}
	entries := make([]entry, 0, len(list))
	for _, item := range list {
		pair, ok := item.([]any)
		if !ok || len(pair) != 2 {
			if item == nil {
				continue // deleted while it was pending, as Redis 6 says it
			}
			return nil, fmt.Errorf("read the inbox: Redis answered %T for an entry", item)
		}
		id, _ := pair[0].(string)
		fields, _ := pair[1].([]any)
		texts := make([]string, len(fields))
		for i := range fields {
			texts[i], _ = fields[i].(string)
		}
		entries = append(entries, newEntry(id, texts))
	}
	return entries, nil
}

// leave takes a consumer out of the group, unless it has entries pending.
func (n *Inbox) leave(ctx context.Context, consumer string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := leaveScript.Run(ctx, n.redis, []string{n.keys.Inbox()}, Group, consumer).Err(); err != nil {
		return fmt.Errorf("leave the group %s: %w", Group, err)
	}
	return nil
}

// forgetConsumers forgets those that have not been heard of for long and have nothing pending. Each process is one.
func (n *Inbox) forgetConsumers(ctx context.Context) {
	consumers, err := n.redis.XInfoConsumers(ctx, n.keys.Inbox(), Group).Result()
	for _, c := range consumers {
		if err == nil && c.Name != n.consumer && c.Pending == 0 && c.Idle > forgetAfter {
			err = n.leave(ctx, c.Name)
		}
	}
	if err != nil {
		n.log.Debug().Err(err).Msg("consumers that are gone stay in the inbox's group")
	}
}

// once is a command that go-redis must not repeat after a broken connection: entries that it may have handed out are
// looked for first.
type once struct{ redis.Cmder }

func (once) NoRetry() bool { return true }
