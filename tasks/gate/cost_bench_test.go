package gate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

const costRounds = 5

// BenchmarkCost prints what an admission and its report cost beside one Allow of redis_rate: the median of five rounds,
// each of which measures both. On a machine that does other things look at the ratio of the medians of single calls, too.
// Run it once:
//
//	go test -run '^$' -bench Cost -benchtime 1x ./tasks/gate
func BenchmarkCost(b *testing.B) {
	_, server := redistest.Real(b)
	options := redistest.Options(server.Addr)
	options.PoolSize = 64
	client := redis.NewClient(options)
	b.Cleanup(func() { _ = client.Close() })
	limiter := redis_rate.NewLimiter(client)
	allow := func() error {
		_, err := limiter.Allow(context.Background(), "cost", redis_rate.PerMinute(1_000_000_000))
		return err
	}
	wide := catalog.Limits{RequestsPerMinute: 1_000_000_000, TokensPerMinute: 1_000_000_000, Concurrency: 1000}
	for _, test := range []struct {
		name   string
		limits limits
	}{
		{"no limits", limits{}},
		{"requests, tokens and permits of account and endpoint", limits{account: wide, endpoint: wide}},
		{"requests, tokens and permits of all four scopes", limits{wide, wide, wide, wide}},
	} {
		g := New(client, keyspace.New("cost:"), test.limits.catalog(testSettings))
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", test.name, goroutines), func(b *testing.B) {
				var ratios, allows, gates []float64
				for b.Loop() {
					for range costRounds {
						calls := 3000
						if goroutines > 1 {
							calls = 30_000
						}
						one := timed(b, goroutines, calls, allow)
						both := timed(b, goroutines, calls, func() error { return admitAndSettle(g) })
						allows, gates, ratios = append(allows, one), append(gates, both), append(ratios, both/one)
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(allows), "allow-us")
				b.ReportMetric(median(gates), "admit+settle-us")
				b.ReportMetric(median(ratios), "ratio")
				if goroutines == 1 {
					b.ReportMetric(single(b, func() error { return admitAndSettle(g) })/single(b, allow), "ratio-of-medians")
				}
			})
		}
	}
}

var costTokens atomic.Int64

func admitAndSettle(g *Gate) error {
	ask := Ask{
		Token: "0198f7a2-5c3e-7b1a-9d44-" + strconv.FormatInt(1e11+costTokens.Add(1), 10), Lease: time.Minute,
		Tokens: 1300, Priority: tasks.PriorityDefault, MaxWait: time.Minute,
	}
	admission, err := g.Admit(context.Background(), routeA, ask)
	if err != nil || !admission.Granted {
		return fmt.Errorf("%s: %w", admission.Reason, err)
	}
	outcome := admission.Outcome(Success)
	outcome.Latency = 80 * time.Millisecond
	_, err = g.Settle(context.Background(), outcome)
	return err
}

// timed is how many us one of so many operations takes, spread over exactly that many goroutines.
func timed(b *testing.B, goroutines, operations int, operation func() error) float64 {
	b.Helper()
	began := time.Now()
	var left atomic.Int64
	left.Store(int64(operations))
	done := make(chan error, goroutines)
	for range goroutines {
		go func() {
			for left.Add(-1) >= 0 {
				if err := operation(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range goroutines {
		require.NoError(b, <-done)
	}
	return float64(time.Since(began).Microseconds()) / float64(operations)
}

// single is how many us the median of single operations takes: what else the machine does falls on few of them.
func single(b *testing.B, operation func() error) float64 {
	b.Helper()
	took := make([]float64, 4000)
	for i := range took {
		began := time.Now()
		require.NoError(b, operation())
		took[i] = float64(time.Since(began).Nanoseconds()) / 1000
	}
	return median(took)
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
