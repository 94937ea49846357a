package worker_test

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/worker"
)

// A call that has waited for its limits is made under a hold that outlives it, and gives back what it did not cost.
func TestAHoldOutlivesTheWaitForALimit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ids := []string{b.job(), b.job(), b.job()}
		var racing sync.WaitGroup
		for _, id := range ids {
			racing.Go(func() { _ = b.deliver(id) })
		}
		racing.Wait()
		_, held := b.today()
		assert.Zero(t, held)
		waited := 0
		for _, id := range ids {
			result := b.result(id)
			if result.Status != tasks.StatusSucceeded {
				continue
			}
			require.Len(t, result.Attempts, 1)
			assert.Positive(t, result.Attempts[0].Hold)
			if result.Attempts[0].StartedAt.Sub(*result.CreatedAt) > time.Second {
				waited++
			}
		}
		assert.Positive(t, waited)
	}, func(c *catalog.Catalog) {
		c.Endpoints = map[string]*catalog.Endpoint{"a-1": c.Endpoints["a-1"]}
		c.Accounts = map[string]*catalog.Account{"a": {Limits: catalog.Limits{RequestsPerMinute: 20}}}
	})
}

// A hold that was taken for one endpoint serves the next, whose calls take longer; the wait for that one's limit may be
// more than what is left of it. The call is made all the same, under another hold.
func TestAHoldThatAWaitUsesUpIsTakenAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		_, err := b.gate.Open(t.Context(), gate.Endpoint{Account: "a", Name: "a-1"}, time.Hour)
		require.NoError(t, err)
		critical := func(j *tasks.Job) { j.Priority = tasks.PriorityCritical }
		b.finish(b.job(critical))
		time.Sleep(2 * time.Second)
		id, begun := b.job(critical), time.Now()
		require.NoError(t, b.deliver(id))
		result := b.result(id)
		require.Equal(t, "b-1", asked(result), "no call was given up because its hold had ended")
		attempt := result.Attempts[0]
		assert.Greater(t, attempt.StartedAt.Sub(begun), 7*time.Second)
		assert.Equal(t, 2, attempt.Hold)
		spent, held := b.today()
		assert.InDelta(t, 2*result.CostUSD, spent, 1e-9)
		assert.Zero(t, held)
	}, func(c *catalog.Catalog) {
		delete(c.Endpoints, "a-2")
		c.Endpoints["b-1"].Timeout = 18 * time.Second
		c.Accounts["b"].Limits.RequestsPerMinute = 6
	})
}

// frozen is a connection on which nothing goes through while it is true.
type frozen struct{ atomic.Bool }

func (f *frozen) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *frozen) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		if f.Load() {
			command.SetErr(io.EOF)
			return io.EOF
		}
		return next(ctx, command)
	}
}

func (f *frozen) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		if !f.Load() {
			return next(ctx, commands)
		}
		for _, command := range commands {
			command.SetErr(io.EOF)
		}
		return io.EOF
	}
}

// A worker that was taken for dead and comes back brings what its call has really cost.
func TestALateReportTakesThePlaceOfTheGuess(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		line := &frozen{}
		client := redis.NewClient(b.redis.Options())
		t.Cleanup(func() { _ = client.Close() })
		client.AddHook(line)
		slow, err := worker.New(worker.Config{Redis: client, Catalog: b.catalog, Dial: b.dial, Slots: 4})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, slow.Shutdown(context.Background())) })
		require.NoError(t, b.worker.Start(t.Context())) // which sweeps

		id := b.job()
		var running sync.WaitGroup
		running.Go(func() { assert.NoError(t, b.deliverTo(slow, id)) })
		time.Sleep(50 * time.Millisecond) // the call is out
		line.Store(true)
		time.Sleep(time.Minute)
		spent, held := b.today()
		assert.InDelta(t, worstCall, spent, 0.1*worstCall, "nobody knows what it has cost")
		assert.Zero(t, held)

		line.Store(false)
		running.Wait()
		result := b.result(id)
		require.Equal(t, tasks.StatusSucceeded, result.Status)
		spent, held = b.today()
		assert.InDelta(t, result.CostUSD, spent, 1e-9)
		assert.Less(t, spent, 0.1*worstCall)
		assert.Zero(t, held)
		costs, err := b.budget().Costs(t.Context(), []string{"2000-01-01"})
		require.NoError(t, err)
		require.Len(t, costs, 1)
		assert.EqualValues(t, 1, costs[0].Calls)
		assert.Zero(t, costs[0].MaybeBilled)
		assert.Equal(t, gate.Nanos(result.CostUSD), costs[0].Nanos)
	})
}
