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

// Each round measures both in turn, in slices that are short beside what else the machine may do meanwhile.
const costRounds, costSlices = 5, 20

// BenchmarkCost prints what an admission and its report cost beside one Allow of redis_rate: the median of the ratios of
// five rounds. Of one caller a round compares the medians of single calls, in turn: a thread that has to be woken, because
// the answer came after it had gone to sleep, costs more than the call, and falls on either as the machine likes. The
// ratio of the means is printed beside it. Run it once:
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
	// Far above what any machine does, so that nothing is refused: 1e13 tokens are 128 million calls a second.
	wide := catalog.Limits{RequestsPerMinute: 10_000_000_000, TokensPerMinute: 10_000_000_000_000, Concurrency: 1000}
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
				gated := func() error { return admitAndSettle(g) }
				calls := 6000
				if goroutines > 1 {
					calls = 60_000
				}
				timed(b, goroutines, calls/costSlices, gated) // scripts and connections
				timed(b, goroutines, calls/costSlices, allow)
				var ratios, typical, allows, gates []float64
				for b.Loop() {
					for range costRounds {
						if goroutines == 1 {
							typical = append(typical, singles(b, gated, allow))
						}
						var one, both float64
						for range costSlices {
							one += timed(b, goroutines, calls/costSlices, allow) / costSlices
							both += timed(b, goroutines, calls/costSlices, gated) / costSlices
						}
						allows, gates, ratios = append(allows, one), append(gates, both), append(ratios, both/one)
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(allows), "allow-us")
				b.ReportMetric(median(gates), "admit+settle-us")
				if goroutines == 1 {
					b.ReportMetric(median(ratios), "ratio-of-means")
					ratios = typical
				}
				b.ReportMetric(median(ratios), "ratio")
				b.ReportMetric(slices.Max(ratios), "worst-ratio")
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
	if err != nil {
		return err
	}
	if !admission.Granted {
		return fmt.Errorf("refused (%s of %s, again in %s): the benchmark's limits are too low for this machine",
			admission.Reason, admission.Limit, admission.RetryIn)
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

// singles is the ratio of the medians of single operations, in turn: what else the machine does falls on few of them.
func singles(b *testing.B, one, other func() error) float64 {
	b.Helper()
	var took [2][]float64
	for range 2000 {
		for i, operation := range []func() error{one, other} {
			began := time.Now()
			require.NoError(b, operation())
			took[i] = append(took[i], float64(time.Since(began).Nanoseconds())/1000)
		}
	}
	return median(took[0]) / median(took[1])
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
