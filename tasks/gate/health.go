package gate

import (
	"context"
	_ "embed" // for the script
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
)

var (
	//go:embed health.lua
	healthSource string
	healthScript = redis.NewScript(healthSource)
)

const (
	// HealthRun is how many health probes in a row order an endpoint behind, or bring it back.
	HealthRun = 3
	// healthKept is for how many ticks what health probes have found holds without a further one: where nobody makes
	// them any more, no endpoint stays behind.
	healthKept = 10
)

// HealthReport is what came of one health probe: a request that costs nothing, made by one worker for each tick. It is
// no call, is not admitted, and counts for no breaker.
type HealthReport struct {
	Endpoint Endpoint
	// Tick is the time for which it was made, by the clock of Redis. Every is the time between two.
	Tick  time.Time
	Every time.Duration
	// Effect is Success for an endpoint that answered, Failure, Trip or TripAccount for one that cannot be used; all
	// others say nothing about it.
	Effect Effect
	// Status is the HTTP status, 0 when no answer came; Class that of the failure, empty for a Success.
	Status int
	Class  tasks.Class
	// Latency is how long it took; a Success that took longer than the Threshold is a bad one, too. A Threshold of 0 is
	// none.
	Latency, Threshold time.Duration
}

// HealthChange says what a report did.
type HealthChange struct {
	// Behind tells that the endpoint stands behind the others. FellBehind and CameBack tell that this report did it.
	Behind, FellBehind, CameBack bool
	// Forwarded tells that the endpoint's open breaker is half-open now, before its time.
	Forwarded bool
	// Repeated marks a report for a tick that has one, or that is over: it did nothing.
	Repeated bool
}

// Health is what the health probes of an endpoint have found. The zero value, but for the Endpoint, is that of an
// endpoint of which nothing is known.
type Health struct {
	Endpoint Endpoint
	// At is when the last report was given, by the clock of Redis; Age is how long ago.
	At  time.Time
	Age time.Duration
	// Status, Class and Latency are those of the last report. Slow tells that its Latency was over the threshold.
	Status  int
	Class   tasks.Class
	Latency time.Duration
	Slow    bool
	// Bad and Good count those in a row up to now, Bad the failed and the slow.
	Bad, Good int64
	// Behind tells that the endpoint stands behind the others.
	Behind bool
}

// ReportHealth records a health probe. A good one may make an open breaker half-open before its time; it never closes
// one. It may be repeated: each tick counts once.
func (g *Gate) ReportHealth(ctx context.Context, report HealthReport) (HealthChange, error) {
	if report.Every <= 0 {
		return HealthChange{}, fmt.Errorf("report the health of endpoint %s: the time between two ticks must be positive, got %s", report.Endpoint.Name, report.Every)
	}
	reply, err := healthScript.Run(ctx, g.client, []string{
		g.keys.EndpointHealth(report.Endpoint.Account, report.Endpoint.Name),
		g.keys.Endpoint(report.Endpoint.Account, report.Endpoint.Name),
	}, report.Tick.UnixMilli(), string(healthEffect(report.Effect)), report.Status, string(report.Class),
		report.Latency.Microseconds(), report.Threshold.Microseconds(), HealthRun, milliseconds(healthKept*report.Every)).Slice()
	if err != nil {
		return HealthChange{}, fmt.Errorf("report the health of endpoint %s to Redis: %w", report.Endpoint.Name, err)
	}
	change, err := parseHealthChange(reply)
	if err != nil {
		return HealthChange{}, fmt.Errorf("report the health of endpoint %s: %w", report.Endpoint.Name, err)
	}
	return change, nil
}

// healthEffect reduces an effect to what it says about an endpoint's health.
func healthEffect(effect Effect) Effect {
	switch effect {
	case Success, Failure:
		return effect
	case Trip, TripAccount:
		return Failure
	case Ignore, Release, Throttle, NotServed:
	}
	return Ignore
}

// parseHealthChange reads {recorded|repeated, behind 0|1, change, forwarded 0|1}.
func parseHealthChange(reply []any) (HealthChange, error) {
	if len(reply) != 4 {
		return HealthChange{}, fmt.Errorf("%w (%d values)", errReply, len(reply))
	}
	word, ok1 := reply[0].(string)
	behind, ok2 := reply[1].(int64)
	change, ok3 := reply[2].(string)
	forwarded, ok4 := reply[3].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || (word != "recorded" && word != "repeated") {
		return HealthChange{}, fmt.Errorf("%w (%v)", errReply, reply)
	}
	return HealthChange{
		Behind: behind == 1, FellBehind: change == "behind", CameBack: change == "back", Forwarded: forwarded == 1,
		Repeated: word == "repeated",
	}, nil
}

// healthFields are the fields that an endpoint's health is read from.
var healthFields = []string{"at_ms", "status", "class", "latency_us", "slow", "bad_running", "good_running", "behind"}

// Health reads what the health probes of the endpoints have found, in their order, in one round trip.
func (g *Gate) Health(ctx context.Context, endpoints []Endpoint) ([]Health, error) {
	pipe := g.client.Pipeline()
	clock := pipe.Time(ctx)
	reads := make([]*redis.SliceCmd, len(endpoints))
	for i, endpoint := range endpoints {
		reads[i] = pipe.HMGet(ctx, g.keys.EndpointHealth(endpoint.Account, endpoint.Name), healthFields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the health of %d endpoints from Redis: %w", len(endpoints), err)
	}
	found := make([]Health, len(endpoints))
	for i, endpoint := range endpoints {
		health, err := parseHealth(reads[i].Val(), clock.Val())
		if err != nil {
			return nil, fmt.Errorf("read the health of endpoint %s: %w", endpoint.Name, err)
		}
		health.Endpoint = endpoint
		found[i] = health
	}
	return found, nil
}

// Behind tells which of the endpoints stand behind the others, by their names, in one round trip.
func (g *Gate) Behind(ctx context.Context, endpoints []Endpoint) (map[string]bool, error) {
	found, err := g.Health(ctx, endpoints)
	if err != nil {
		return nil, err
	}
	behind := map[string]bool{}
	for _, health := range found {
		if health.Behind {
			behind[health.Endpoint.Name] = true
		}
	}
	return behind, nil
}

// parseHealth reads the values of healthFields as they look at the time now.
func parseHealth(values []any, now time.Time) (Health, error) {
	if len(values) != len(healthFields) {
		return Health{}, fmt.Errorf("got %d fields instead of %d", len(values), len(healthFields))
	}
	class, numbers := "", map[string]int64{}
	for i, field := range healthFields {
		text, _ := values[i].(string)
		switch {
		case field == "class":
			class = text
			continue
		case text == "":
			continue
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Health{}, fmt.Errorf("field %s holds %q, not a whole number", field, text)
		}
		numbers[field] = number
	}
	health := Health{
		Status: int(numbers["status"]), Class: tasks.Class(class),
		Latency: time.Duration(numbers["latency_us"]) * time.Microsecond, Slow: numbers["slow"] == 1,
		Bad: numbers["bad_running"], Good: numbers["good_running"], Behind: numbers["behind"] == 1,
	}
	if at := numbers["at_ms"]; at > 0 {
		health.At = time.UnixMilli(at)
		health.Age = max(0, now.Sub(health.At))
	}
	return health, nil
}
