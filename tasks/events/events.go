// Package events writes what operators are to know, to a capped stream that others may follow.
package events

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Most caps a stream.
const Most = 10_000

// Layout is how the time of an event is written: RFC 3339, in UTC, with milliseconds.
const Layout = "2006-01-02T15:04:05.000Z07:00"

// Publish writes an event, with pairs of names and texts. Its kind is the thing it is about and what became of it, such
// as "breaker.opened".
func Publish(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, kind string, pairs ...any) error {
	err := client.XAdd(ctx, &redis.XAddArgs{
		Stream: keys.Events(), MaxLen: Most, Approx: true,
		Values: fields(kind, pairs),
	}).Err()
	if err != nil {
		return fmt.Errorf("write the event %s to Redis: %w", kind, err)
	}
	return nil
}

func fields(kind string, pairs []any) []any {
	return append([]any{"type", kind, "at", time.Now().UTC().Format(Layout)}, pairs...)
}
