package gate

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// rateLimit is the yardstick: what one check of a rate limiter costs that keeps a GCRA clock in Redis, with the calls
// that redis_rate's Allow makes (TIME, GET, SET with an expiry).
var rateLimit = redis.NewScript(`
local key, burst, rate, period, cost = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local interval = period / rate
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1483228800) + tonumber(time[2]) / 1000000
local tat = math.max(tonumber(redis.call('GET', key) or now), now)
local new_tat = tat + interval * cost
local remaining = (now - (new_tat - interval * burst)) / interval
if remaining < 0 then
  return {0, 0, tostring(-remaining * interval), tostring(tat - now)}
end
if new_tat - now > 0 then
  redis.call('SET', key, string.format('%.17g', new_tat), 'EX', math.ceil(new_tat - now))
end
return {cost, remaining, '-1', tostring(new_tat - now)}`)

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
		for _, operation := range []struct {
			name string
			run  func() error
		}{
			{"rate limit", func() error {
				return rateLimit.Run(ctx, face.client, []string{"bench:rate"}, 1e9, 1e9, 60, 1).Err()
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
	var left atomic.Int64
	left.Store(int64(b.N))
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
}
