package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// ActiveKept is how long the active endpoints stand after they were last published or confirmed. Where no leader is,
// nothing that is old is shown.
const ActiveKept = time.Minute

// Active is the endpoint that the next job of a tier asks first, for the tier's first model. Limits are not looked at.
type Active struct {
	Tier  string `json:"tier,omitempty"`
	Model string `json:"model"`
	// Endpoint is empty when the breakers of all endpoints of the model are open.
	Endpoint string `json:"endpoint"`
	Region   string `json:"region,omitempty"`
	// Since is when the leader first saw it so.
	Since time.Time `json:"since"`
	// LatencyMS is that of the endpoint's last health probe, in milliseconds; 0 before the first.
	LatencyMS float64 `json:"latency_ms,omitempty"`
}

// PublishActive publishes the active endpoints of all tiers, in the place of those published before.
func PublishActive(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, endpoints []Active) error {
	fields := make([]any, 0, 2*len(endpoints))
	for _, active := range endpoints {
		tier := active.Tier
		active.Tier = ""
		text, err := tasks.Encode(active)
		if err != nil {
			return fmt.Errorf("write the active endpoint of tier %s as JSON: %w", tier, err)
		}
		fields = append(fields, tier, string(text))
	}
	_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Del(ctx, keys.Active())
		if len(fields) > 0 {
			pipe.HSet(ctx, keys.Active(), fields...)
			pipe.PExpire(ctx, keys.Active(), ActiveKept)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish the active endpoints in Redis: %w", err)
	}
	return nil
}

// ConfirmActive keeps what is published for longer. It tells false when nothing is.
func ConfirmActive(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) (bool, error) {
	stands, err := client.PExpire(ctx, keys.Active(), ActiveKept).Result()
	if err != nil {
		return false, fmt.Errorf("keep the active endpoints in Redis: %w", err)
	}
	return stands, nil
}

// ReadActive reads the published active endpoints, by the names of their tiers. What cannot be read is left out, and
// the error says so.
func ReadActive(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) ([]Active, error) {
	fields, err := client.HGetAll(ctx, keys.Active()).Result()
	if err != nil {
		return nil, fmt.Errorf("read the active endpoints from Redis: %w", err)
	}
	endpoints := make([]Active, 0, len(fields))
	var problems []error
	for tier, text := range fields {
		var active Active
		if err := json.Unmarshal([]byte(text), &active); err != nil {
			problems = append(problems, fmt.Errorf("read the active endpoint of tier %s: %w", tier, err))
			continue
		}
		active.Tier = tier
		endpoints = append(endpoints, active)
	}
	slices.SortFunc(endpoints, func(a, b Active) int { return strings.Compare(a.Tier, b.Tier) })
	return endpoints, errors.Join(problems...)
}
