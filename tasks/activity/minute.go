package activity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Use is what was used of a route within a minute.
type Use struct{ Calls, Tokens int64 }

// Route is an endpoint and a model.
type Route struct{ Endpoint, Model string }

// Minute reads what each route was used for in the last 60 s of whole spans, so that it is up to 10 s late. Calls count
// once they have ended.
func Minute(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, now time.Time) (map[Route]Use, error) {
	spans := int(time.Minute / fine.width)
	pipe, read := client.Pipeline(), make([]*redis.MapStringStringCmd, spans)
	for i := range read {
		read[i] = pipe.HGetAll(ctx, fine.key(keys, now.Add(-time.Duration(i+1)*fine.width)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the activity of the last minute from Redis: %w", err)
	}
	uses := map[Route]Use{}
	for _, hash := range read {
		for name, text := range hash.Val() {
			word, rest, _ := strings.Cut(name, "|")
			p := parts(rest, 3)
			switch word {
			case wordAttempt:
				use := uses[Route{p[0], p[1]}]
				use.Calls += number(text)
				uses[Route{p[0], p[1]}] = use
			case wordTokens:
				use := uses[Route{p[1], p[2]}]
				use.Tokens += number(text)
				uses[Route{p[1], p[2]}] = use
			}
		}
	}
	return uses, nil
}
