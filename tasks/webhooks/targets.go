package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Target is how a target of a tenant's webhooks stands.
type Target struct {
	// Origin is its scheme, host and port.
	Origin string
	// Open tells that its breaker is open: until Until nothing is sent, then one probe.
	Open  bool
	Until time.Time
	// RestsUntil is until when it asked to be left alone; zero when it did not.
	RestsUntil time.Time
	// Failures is how many came in a row.
	Failures int
	// Latency is the smoothed one of its successes; 0 when there was none.
	Latency time.Duration
	// Delivered and Failed count attempts, Out those that are out.
	Delivered, Failed, Out int64
	// Off is how many of its URLs are off.
	Off int
	// Recent is its last attempts, the newest first.
	Recent []Attempt
}

// Targets lists the targets of a tenant, those that were used last first.
func (s *Store) Targets(ctx context.Context, tenant string) ([]Target, error) {
	digests, err := s.redis.ZRevRange(ctx, s.keys.WebhookTargets(tenant), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list the targets of tenant %s: %w", tenant, err)
	}
	if len(digests) == 0 {
		return nil, nil
	}
	pipe := s.redis.Pipeline()
	hashes, permits := make([]*redis.MapStringStringCmd, len(digests)), make([]*redis.IntCmd, len(digests))
	recents := make([]*redis.StringSliceCmd, len(digests))
	now := fmt.Sprint(time.Now().UnixMilli())
	for i, target := range digests {
		hashes[i] = pipe.HGetAll(ctx, s.keys.WebhookTarget(tenant, target))
		permits[i] = pipe.ZCount(ctx, s.keys.WebhookTargetPermits(tenant, target), now, "+inf")
		recents[i] = pipe.LRange(ctx, s.keys.WebhookTargetRecent(tenant, target), 0, recentKept-1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the targets of tenant %s: %w", tenant, err)
	}
	var targets []Target
	for i := range digests {
		fields := hashes[i].Val()
		if fields["origin"] == "" {
			continue // nobody has used it for long
		}
		target, err := parseTarget(fields, recents[i].Val())
		if err != nil {
			return nil, err
		}
		target.Out = permits[i].Val()
		targets = append(targets, target)
	}
	return targets, nil
}

func parseTarget(fields map[string]string, recent []string) (Target, error) {
	p := parser{id: "target " + fields["origin"], fields: fields}
	t := Target{
		Origin: fields["origin"], Open: fields["state"] == "open", Failures: int(p.number("failures")),
		Latency:   time.Duration(p.number("latency_ms")) * time.Millisecond,
		Delivered: p.number("delivered"), Failed: p.number("failed"), Off: int(p.number("offs")),
	}
	if t.Open {
		t.Until = p.time("until_ms")
	}
	if rests := p.time("rest_until_ms"); rests.After(time.Now()) {
		t.RestsUntil = rests
	}
	for _, text := range recent {
		var a wireAttempt
		p.failed("recent", json.Unmarshal([]byte(text), &a))
		t.Recent = append(t.Recent, a.attempt())
	}
	return t, p.err
}

// SwitchOn lets a URL be used again that is off because it answered 410, and its target at once. It tells whether it was
// off. ErrUnknownTarget says that nothing was ever sent there.
func (s *Store) SwitchOn(ctx context.Context, tenant, address string) (was bool, err error) {
	origin, err := Origin(strings.TrimSpace(address))
	if err != nil {
		return false, err
	}
	reply, err := switchonScript.Run(ctx, s.redis, []string{s.keys.WebhookTarget(tenant, digest(origin))}, digest(address)).StringSlice()
	switch {
	case err != nil:
		return false, fmt.Errorf("switch on a target at %s: %w", origin, err)
	case len(reply) == 0 || reply[0] == "not_found":
		return false, fmt.Errorf("switch on a target at %s: %w", origin, ErrUnknownTarget)
	}
	return len(reply) > 1 && reply[1] == "1", nil
}
