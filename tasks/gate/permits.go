package gate

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// PermitsOut counts the permits of limit scopes that are out, in the order of the scopes. What has expired is none.
func (g *Gate) PermitsOut(ctx context.Context, scopes []catalog.LimitScope) ([]int64, error) {
	out := make([]int64, len(scopes))
	if len(scopes) == 0 {
		return out, nil
	}
	now, err := g.client.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("read the time of Redis: %w", err)
	}
	pipe, counts := g.client.Pipeline(), make([]*redis.IntCmd, len(scopes))
	for i, s := range scopes {
		// The member that never expires is no permit.
		counts[i] = pipe.ZCount(ctx, g.keys.Permits(s.Account, s.Endpoint, s.Model), strconv.FormatInt(now.UnixMilli(), 10), "(+inf")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("count the permits of %d limits in Redis: %w", len(scopes), err)
	}
	for i, count := range counts {
		out[i] = count.Val()
	}
	return out, nil
}
