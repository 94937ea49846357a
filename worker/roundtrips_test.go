package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// slowAnswer is by how much every answer of Redis comes later: whatever is sent in one go is sent before the first one.
const slowAnswer = 50 * time.Millisecond

// A job that nothing stands in the way of waits for Redis four times: its record's read; hold and admit, which go to two
// slots at the same time; begin, that writes the intent; commit, settle and settle_hold, at the same time. What asynq
// asks for itself is not here: the delivery is handed over.
func TestACallCostsThreeRoundTrips(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	trips := &roundTrips{}
	client.AddHook(trips)
	wide := catalog.Limits{RequestsPerMinute: 60_000, TokensPerMinute: 60_000_000, Concurrency: 100}
	b := realBench(t, client, func(c *catalog.Catalog) {
		c.Accounts["a"].Limits, c.Endpoints["a-1"].Limits = wide, wide
		c.Budget = catalog.Budget{DailyUSD: 100, Tenants: map[string]float64{"default": 50}}
	})
	require.NoError(t, b.gate.Load(t.Context()))
	require.NoError(t, b.deliver(b.job())) // loads the other scripts, connects

	// On a busy machine what is sent at the same time may be sent late. What has to wait for an answer always is: the
	// fewest round trips of some jobs are those that a job needs.
	var waves [][]string
	for range 10 {
		id := b.job()
		taken := b.tripsOf(trips, id)
		require.Greater(t, len(taken), 1)
		require.Contains(t, taken[0], "hgetall forebay:{job:"+id+"}", "the first is the record's read, with the delivery's start")
		if waves == nil || len(taken) < len(waves) {
			waves = taken
		}
		if len(waves) <= 4 {
			break
		}
	}
	for i, wave := range waves {
		t.Logf("%d: %s", i, strings.Join(wave, "; "))
	}
	assert.LessOrEqual(t, len(waves)-1, 3, "round trips from the record's read to the end: %v", waves[1:])
	all := fmt.Sprint(waves[1:])
	for _, key := range []string{"{budget}", "{acct:a}", "{job:"} {
		assert.Contains(t, all, key, "budget, limits and ledger are all asked")
	}
}

// tripsOf does a job, and returns what was sent for it in each round trip.
func (b *bench) tripsOf(trips *roundTrips, id string) [][]string {
	record, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	task, _, err := envelope.New(b.store.Keys(), record.Job, record.Shard, record.Run)
	require.NoError(b.t, err)
	trips.begin()
	require.NoError(b.t, b.worker.ProcessTask(b.t.Context(), task))
	waves := trips.end()
	require.Equal(b.t, tasks.StatusSucceeded, b.result(id).Status)
	return waves
}

// realBench is a bench in real time, on a Redis of its own.
func realBench(t *testing.T, client *redis.Client, change ...func(*catalog.Catalog)) *bench {
	t.Helper()
	sim, err := simulator.New(simulator.Config{Regions: []simulator.RegionConfig{{Name: "a-1"}, {Name: "a-2"}, {Name: "b-1"}}})
	require.NoError(t, err)
	listener := sim.Listen()
	t.Cleanup(func() {
		_ = sim.Close()
		_ = listener.Close()
	})
	b := &bench{t: t, redis: client, sim: sim, catalog: testCatalog(t, change...), dial: listener.DialContext}
	b.store, err = jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.store.Close() })
	b.gate = gate.New(client, keyspace.New(""), b.catalog)
	b.worker = b.newWorker()
	return b
}

// roundTrips is a hook of a client that delays every answer, and counts how often something is sent that may have waited
// for one: what is sent before the first answer comes is one round trip.
type roundTrips struct {
	mu       sync.Mutex
	on       bool
	answered bool // since the last round trip began
	waves    [][]string
}

func (r *roundTrips) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on, r.answered, r.waves = true, true, nil
}

func (r *roundTrips) end() [][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = false
	return r.waves
}

func (r *roundTrips) sent(cmds ...redis.Cmder) (delay func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A connection more is made when there are too few for what is sent at once, and kept for the next job.
	if !r.on || slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "hello" || cmd.Name() == "client" }) {
		return func() {}
	}
	if r.answered {
		r.waves, r.answered = append(r.waves, nil), false
	}
	last := len(r.waves) - 1
	for _, cmd := range cmds {
		r.waves[last] = append(r.waves[last], described(cmd))
	}
	return func() {
		time.Sleep(slowAnswer) // a real Redis keeps real time
		r.mu.Lock()
		defer r.mu.Unlock()
		r.answered = true
	}
}

// described is a command with its first key.
func described(cmd redis.Cmder) string {
	args, at := cmd.Args(), 1
	if strings.HasPrefix(cmd.Name(), "eval") {
		at = 3
	}
	if at >= len(args) {
		return cmd.Name()
	}
	return fmt.Sprint(cmd.Name(), " ", args[at])
}

// DialHook implements redis.Hook.
func (r *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (r *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer r.sent(cmd)()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (r *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer r.sent(cmds...)()
		return next(ctx, cmds)
	}
}
