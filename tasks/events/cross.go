package events

import (
	"context"
	_ "embed" // for the script
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var (
	//go:embed cross.lua
	crossSource string

	crossScript = redis.NewScript(crossSource)
)

// Cross says on which level something stands, such as a number that operators are told of when it passes 1, 10 and 100;
// level 0 is below all. Reached from below, a level is told of by one event, which is Publish's otherwise, and not again
// before it has been left downwards: whoever looks, however many look, and over all restarts. It answers whether this
// call told of it.
func Cross(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, name string, level int, kind string, pairs ...any) (bool, error) {
	args := append([]any{name, level, Most}, fields(kind, pairs)...)
	told, err := crossScript.Run(ctx, client, []string{keys.Events(), keys.EventLevels()}, args...).Int()
	if err != nil {
		return false, fmt.Errorf("write the event %s to Redis, if it is due: %w", kind, err)
	}
	return told == 1, nil
}
