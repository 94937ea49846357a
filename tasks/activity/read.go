package activity

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/metrics"
)

// mostPoints bounds the points of a window.
const mostPoints = 400

// Windows are the lengths of time that Read is asked for, by name.
var Windows = map[string]time.Duration{
	"15m": 15 * time.Minute, "1h": time.Hour, "6h": 6 * time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour,
}

// Report is what happened in a window. Numbers that nobody has are null.
type Report struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// StepS is the length of a point, in seconds.
	StepS     int        `json:"step_s"`
	Points    []Point    `json:"points"`
	TaskTypes []Kind     `json:"task_types"`
	Tiers     []Kind     `json:"tiers"`
	Endpoints []Endpoint `json:"endpoints"`
	Codes     []Code     `json:"codes"`
	CostUSD   float64    `json:"cost_usd"`
	// DearestUSD is what the same tokens would have cost with the dearest model of their kind.
	DearestUSD float64 `json:"dearest_usd"`
}

// Point is a step of a window.
type Point struct {
	At time.Time `json:"at"`
	// Accepted to Expired are jobs; Retried are deliveries that failed and are repeated.
	Accepted  int64 `json:"accepted"`
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	Expired   int64 `json:"expired"`
	Retried   int64 `json:"retried"`
	// Attempts are calls. Of those that failed, the ones that met a limit of the provider are Throttled.
	Attempts       int64    `json:"attempts"`
	AttemptsFailed int64    `json:"attempts_failed"`
	Throttled      int64    `json:"throttled"`
	CostUSD        float64  `json:"cost_usd"`
	DearestUSD     float64  `json:"dearest_usd"`
	Tokens         int64    `json:"tokens"`
	CallP50MS      *float64 `json:"call_p50_ms"`
	CallP95MS      *float64 `json:"call_p95_ms"`
	JobP50MS       *float64 `json:"job_p50_ms"`
	JobP95MS       *float64 `json:"job_p95_ms"`
}

// Kind is the jobs of a task type, or of a tier.
type Kind struct {
	Name      string `json:"name"`
	Succeeded int64  `json:"succeeded"`
	Failed    int64  `json:"failed"`
	Cancelled int64  `json:"cancelled"`
	Expired   int64  `json:"expired"`
	// SuccessRate is the share of successes among those that succeeded, failed or expired; null where none did.
	SuccessRate *float64 `json:"success_rate"`
	CostUSD     float64  `json:"cost_usd"`
}

// Endpoint is the calls of an endpoint.
type Endpoint struct {
	Name     string           `json:"name"`
	Attempts int64            `json:"attempts"`
	Failed   int64            `json:"failed"`
	P50MS    *float64         `json:"p50_ms"`
	P95MS    *float64         `json:"p95_ms"`
	Classes  map[string]int64 `json:"classes"`
}

// Code is how often jobs ended with a code.
type Code struct {
	Code  string `json:"code"`
	Count int64  `json:"count"`
}

// Read adds up what all processes did in the window up to now.
func Read(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, window time.Duration, now time.Time) (Report, error) {
	of := fine
	if window > time.Hour {
		of = coarse
	}
	last := now.Truncate(of.width)
	count := int(window / of.width)
	first := last.Add(-time.Duration(count-1) * of.width)
	group := (count + mostPoints - 1) / mostPoints
	pipe := client.Pipeline()
	read := make([]*redis.MapStringStringCmd, count)
	for i := range read {
		read[i] = pipe.HGetAll(ctx, of.key(keys, first.Add(time.Duration(i)*of.width)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return Report{}, fmt.Errorf("read the activity from Redis: %w", err)
	}
	all, report := newTally(), Report{From: first.UTC(), To: now.UTC(), StepS: int(of.width/time.Second) * group, Points: []Point{}}
	for from := 0; from < count; from += group {
		step := newTally()
		for _, hash := range read[from:min(from+group, count)] {
			step.read(hash.Val())
		}
		all.add(step)
		report.Points = append(report.Points, step.point(first.Add(time.Duration(from)*of.width).UTC()))
	}
	all.fill(&report)
	return report, nil
}

// Latest are the point of the span that is under way and the one before it.
func Latest(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, now time.Time) ([]Point, error) {
	report, err := Read(ctx, client, keys, 2*fine.width, now)
	return report.Points, err
}

// failed tells whether a class of an attempt is a failure of the call.
func failed(class string) bool {
	return class != metrics.OK && class != string(tasks.ClassDeferred) && class != string(tasks.ClassAbandoned)
}

// parts are those of a field, of which there must be so many.
func parts(rest string, many int) []string {
	found := strings.Split(rest, "|")
	for len(found) < many {
		found = append(found, "")
	}
	return found
}

func number(text string) int64 {
	value, _ := strconv.ParseInt(text, 10, 64) // what is no number was not written by a Recorder
	return value
}
