package gate

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// mostEvents caps the stream of events.
const mostEvents = 10_000

// publish writes an event, with pairs of names and texts, to the capped stream that others may follow.
func publish(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, kind string, pairs ...any) error {
	err := client.XAdd(ctx, &redis.XAddArgs{
		Stream: keys.Events(), MaxLen: mostEvents, Approx: true,
		Values: append([]any{"type", kind, "at", time.Now().UTC().Format(time.RFC3339)}, pairs...),
	}).Err()
	if err != nil {
		return fmt.Errorf("write the event %s to Redis: %w", kind, err)
	}
	return nil
}

// Publish writes an event of a change of a breaker: breaker.opened, breaker.reopened or breaker.closed, with the
// endpoint, its account, the cause of an opening, and the account's other endpoints that opened with it. Unchanged writes nothing.
func (g *Gate) Publish(ctx context.Context, outcome Outcome, transition Transition) error {
	if transition.Change == Unchanged {
		return nil
	}
	cause := ""
	if transition.Change != Closed {
		cause = outcome.cause()
	}
	return publish(ctx, g.client, g.keys, "breaker."+string(transition.Change), "endpoint", outcome.Route.Endpoint,
		"account", outcome.Route.Account, "cause", cause, "others", strings.Join(transition.OthersOpened, ","))
}
