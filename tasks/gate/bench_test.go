package gate

import (
	"context"
	"fmt"
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

func BenchmarkGate(b *testing.B) {
	_, server := redistest.Real(b)
	options := redistest.Options(server.Addr)
	options.PoolSize = 64
	client := redis.NewClient(options)
	b.Cleanup(func() { _ = client.Close() })
	pipelined, err := redis.NewClient(options).AutoPipeline()
	require.NoError(b, err)
	b.Cleanup(func() { _ = pipelined.Close() })

	var tokens atomic.Int64
	ctx := context.Background()
	settle := func(g *Gate, admission Admission) error {
		outcome := admission.Outcome(Success)
		outcome.Latency = 80 * time.Millisecond
		_, err := g.Settle(ctx, outcome)
		return err
	}
	newToken := func() string { return "0198f7a2-5c3e-7b1a-9d44-" + strconv.FormatInt(1e11+tokens.Add(1), 10) }
	for _, face := range []struct {
		name   string
		client redis.UniversalClient
	}{{"client", client}, {"pipelined", pipelined}} {
		g := New(face.client, keyspace.New("bench:"+face.name+":"), &catalog.Catalog{Breaker: testSettings})
		limiter := redis_rate.NewLimiter(face.client) // the yardstick
		for _, operation := range []struct {
			name string
			run  func() error
		}{
			{"rate limit", func() error {
				_, err := limiter.Allow(ctx, "bench", redis_rate.PerMinute(1_000_000_000))
				return err
			}},
			{"admit", func() error {
				_, err := g.Admit(ctx, routeA, Ask{Token: "token", Lease: time.Minute, Priority: tasks.PriorityBulk})
				return err
			}},
			{"settle", func() error {
				return settle(g, Admission{Route: routeA, Token: newToken()})
			}},
			{"admit+settle", func() error {
				admission, err := g.Admit(ctx, routeA, Ask{Token: newToken(), Lease: time.Minute, Priority: tasks.PriorityBulk})
				if err != nil {
					return err
				}
				return settle(g, admission)
			}},
		} {
			for _, goroutines := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/%s/%d", face.name, operation.name, goroutines), func(b *testing.B) {
					run(b, goroutines, operation.run)
				})
			}
		}
	}
}

// run spreads b.N operations over exactly that many goroutines.
func run(b *testing.B, goroutines int, operation func() error) {
	b.Helper()
	b.ReportAllocs()
	timed(b, goroutines, b.N, operation)
}
