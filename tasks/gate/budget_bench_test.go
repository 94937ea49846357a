package gate

import (
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

// A hold and its settlement, alone and among others.
func BenchmarkBudget(b *testing.B) {
	_, server := redistest.Real(b)
	options := redistest.Options(server.Addr)
	options.PoolSize = 64
	client := redis.NewClient(options)
	b.Cleanup(func() { _ = client.Close() })
	budget := NewBudget(client, keyspace.New("bench:"), catalog.Budget{DailyUSD: 1_000_000, TaskTypes: map[string]float64{"summary": 1000}})
	var tokens atomic.Int64
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("hold+settle/%d", goroutines), func(b *testing.B) {
			run(b, goroutines, func() error {
				answer, err := budget.Hold(HoldRequest{
					Token: "0198f7a2-5c3e-7b1a-9d44-000000000000." + strconv.FormatInt(tokens.Add(1), 10), Job: "job", Tenant: "default",
					TaskType: "summary", Amount: 1_000_000, Lease: time.Minute,
				})
				if err != nil {
					return err
				}
				_, err = budget.Settle(Settlement{Hold: *answer.Hold, Call: &CallCost{
					TaskType: "summary", Model: "small", Endpoint: "acme-eu", Tenant: "default", Nanos: 60_000,
					Usage: tasks.Usage{PromptTokens: 200, CompletionTokens: 50},
				}})
				return err
			})
		})
	}
	spent, err := client.HGet(b.Context(), budget.keys.BudgetDay(budget.Today().Name), "held:all").Result()
	require.NoError(b, err)
	require.Equal(b, "0", spent)
}
