package command

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// limitStatus is how far a limit is used.
type limitStatus struct {
	// Name says what is limited and for what: "requests of account acme, model large".
	Name string `json:"name"`
	// Used is about what was used within the last minute, or what is out now of calls at once.
	Used  int64 `json:"used"`
	Limit int   `json:"limit"`
	// Per is "minute"; empty for calls at once.
	Per string `json:"per,omitempty"`
}

// readLimits reads how far the limits are used that hold for each endpoint's calls, by endpoint.
func readLimits(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, c *catalog.Catalog) (map[string][]limitStatus, error) {
	now := time.Now()
	minute, err := activity.LastMinute(ctx, client, keys, now)
	if err != nil {
		return nil, err
	}
	limits := map[string][]limitStatus{}
	type permits struct {
		endpoint string
		at       int
		used     *redis.IntCmd
	}
	var out []permits
	pipe := client.Pipeline()
	for name, endpoint := range c.Endpoints {
		for _, scope := range c.AllLimitsFor(endpoint) {
			used := minute.Sum(func(endpoint, model string) bool {
				of := c.Endpoints[endpoint]
				return of != nil && of.Account == scope.Account && (scope.Endpoint == "" || scope.Endpoint == endpoint) &&
					(scope.Model == "" || scope.Model == model)
			})
			if limit := scope.Limits.RequestsPerMinute; limit > 0 {
				limits[name] = append(limits[name], limitStatus{"requests of " + scope.String(), used.Calls, limit, "minute"})
			}
			if limit := scope.Limits.TokensPerMinute; limit > 0 {
				limits[name] = append(limits[name], limitStatus{"tokens of " + scope.String(), used.Tokens, limit, "minute"})
			}
			if limit := scope.Limits.Concurrency; limit > 0 {
				// A member that is none never expires.
				count := pipe.ZCount(ctx, keys.Permits(scope.Account, scope.Endpoint, scope.Model), strconv.FormatInt(now.UnixMilli(), 10), "(+inf")
				out = append(out, permits{name, len(limits[name]), count})
				limits[name] = append(limits[name], limitStatus{"calls at once of " + scope.String(), 0, limit, ""})
			}
		}
	}
	if len(out) == 0 {
		return limits, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the calls that are out from Redis: %w", err)
	}
	for _, p := range out {
		limits[p.endpoint][p.at].Used = p.used.Val()
	}
	return limits, nil
}
