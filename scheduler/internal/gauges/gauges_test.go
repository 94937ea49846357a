package gauges

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func endpoints(t *testing.T) *catalog.Catalog {
	t.Helper()
	price := 1.0
	c := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"a": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"near": {Account: "a", URL: "http://near/v1", Priority: 1, Auth: catalog.AuthNone},
			"far":  {Account: "a", URL: "http://far/v1", Priority: 2, Auth: catalog.AuthNone},
		},
		Models:    map[string]*catalog.Model{"small": {Output: &price}},
		Tiers:     []catalog.Tier{{Name: "low", Models: []string{"small"}}},
		TaskTypes: map[string]*catalog.TaskType{"summary": {Model: "small"}},
		Budget:    catalog.Budget{DailyUSD: 50, Tenants: map[string]float64{"secret-tenant": 1}, TaskTypes: map[string]float64{"summary": 5}},
	}
	require.NoError(t, c.Validate())
	return c
}

// kit is Gauges in a registry of their own.
type kit struct {
	redis    redis.UniversalClient
	store    *jobstore.Store
	gauges   *Gauges
	registry *prometheus.Registry
	leads    atomic.Bool
}

func setup(t *testing.T, client redis.UniversalClient) *kit {
	t.Helper()
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	k := &kit{redis: client, store: store, registry: prometheus.NewPedanticRegistry()}
	k.leads.Store(true)
	known := endpoints(t)
	k.gauges = New(Config{
		Redis: client, Store: store, Catalog: func() *catalog.Catalog { return known }, Leading: k.leads.Load,
		Workers: func(context.Context) (int, error) { return 3, nil },
	})
	require.NoError(t, k.registry.Register(k.gauges))
	return k
}

// shows compares the series of some names.
func (k *kit) shows(t *testing.T, want string) {
	t.Helper()
	k.gauges.at = time.Time{} // what was read is old
	var lines strings.Builder
	families, err := k.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			value := metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			line := family.GetName()
			for _, label := range metric.GetLabel() {
				line += " " + label.GetValue()
			}
			fmt.Fprintf(&lines, "%s %v\n", line, value)
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(want), "\n") {
		assert.Contains(t, "\n"+lines.String(), "\n"+strings.TrimSpace(line)+"\n")
	}
}

func (k *kit) enqueue(t *testing.T, job tasks.Job) { t.Helper(); k.enqueueIn(t, job, "") }

func (k *kit) enqueueIn(t *testing.T, job tasks.Job, shard keyspace.Shard) {
	t.Helper()
	task, options, err := envelope.New(k.store.Keys(), job, shard, 1)
	require.NoError(t, err)
	merged, _ := envelope.Together(k.redis)
	_, err = asynq.NewClientFromRedisClient(merged).EnqueueContext(t.Context(), task, options...)
	require.NoError(t, err)
}

func TestHowADeploymentStands(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) redis.UniversalClient{
		"embedded": func(t *testing.T) redis.UniversalClient { t.Helper(); c, _ := redistest.Embedded(t); return c },
		"real":     func(t *testing.T) redis.UniversalClient { t.Helper(); c, _ := redistest.Real(t); return c },
		"cluster":  func(t *testing.T) redis.UniversalClient { t.Helper(); c, _ := redistest.Cluster(t); return c },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := setup(t, open(t))
			ctx := t.Context()
			k.shows(t, `
				forebay_queue_tasks critical pending 0
				forebay_queue_oldest_seconds webhooks 0
				forebay_breaker_state near 0
				forebay_open_jobs 0
				forebay_workers 3
				forebay_leader 1
				forebay_budget_limit_usd all 50
				forebay_budget_limit_usd type:summary 5
				forebay_budget_spent_usd all 0
				forebay_deployment_read_failures_total 0`)
			later := time.Now().Add(time.Hour)
			k.enqueue(t, tasks.Job{ID: "one", Priority: tasks.PriorityDefault})
			k.enqueueIn(t, tasks.Job{ID: "elsewhere", Priority: tasks.PriorityDefault}, keyspace.Shards(4).Of("elsewhere"))
			k.enqueue(t, tasks.Job{ID: "later", Priority: tasks.PriorityDefault, RunAt: &later})
			for number := range 3 {
				member := &tasks.Member{Batch: "b", Number: number}
				k.enqueue(t, tasks.Job{ID: fmt.Sprint("member-", number), Priority: tasks.PriorityBulk, Tenant: "acme", Member: member})
			}
			require.NoError(t, k.redis.ZAdd(ctx, k.store.Keys().Index(3, "dead"), redis.Z{Score: 1, Member: "x"}).Err())
			require.NoError(t, k.redis.ZAdd(ctx, k.store.Keys().Index(5, "open"), redis.Z{Score: 1, Member: "y"}).Err())
			require.NoError(t, k.redis.XAdd(ctx, &redis.XAddArgs{Stream: k.store.Keys().Inbox(), Values: []string{"job", "{}"}}).Err())
			_, err := pauses.New(k.redis, k.store.Keys()).SetQueue(ctx, "bulk", true)
			require.NoError(t, err)
			_, err = gate.New(k.redis, k.store.Keys(), k.gauges.catalog).Open(ctx, gate.Endpoint{Account: "a", Name: "near"}, time.Minute)
			require.NoError(t, err)
			k.shows(t, `
				forebay_queue_tasks default pending 2
				forebay_queue_tasks default scheduled 1
				forebay_queue_tasks bulk pending 3
				forebay_queue_paused bulk 1
				forebay_queue_paused default 0
				forebay_breaker_state near 2
				forebay_breaker_state far 0
				forebay_dead_jobs 1
				forebay_open_jobs 1
				forebay_inbox_entries 1`)
			problems, err := testutil.GatherAndLint(k.registry)
			require.NoError(t, err)
			assert.Empty(t, problems)
		})
	}
}

// The age is that of the oldest task that could be begun, in a lane or in none.
func TestTheOldestTask(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	k := setup(t, client)
	k.enqueue(t, tasks.Job{ID: "one", Priority: tasks.PriorityBulk})
	hourAgo := time.Now().Add(-time.Hour)
	require.NoError(t, client.HSet(t.Context(), "asynq:{bulk}:t:one", "pending_since", hourAgo.UnixNano()).Err())
	oldest := func() time.Duration {
		backlogs, err := envelope.Backlogs(t.Context(), client, []string{"bulk"})
		require.NoError(t, err)
		return time.Since(backlogs[0].OldestAt)
	}
	assert.InDelta(t, time.Hour, oldest(), float64(time.Minute))
	k.enqueue(t, tasks.Job{ID: "member", Priority: tasks.PriorityBulk, Tenant: "acme", Member: &tasks.Member{Batch: "b"}})
	lane := envelope.Lanes("bulk").Prefix + "acme"
	require.NoError(t, client.ZAddXX(t.Context(), lane, redis.Z{Score: float64(hourAgo.Add(-time.Hour).Unix()), Member: "member"}).Err())
	assert.InDelta(t, 2*time.Hour, oldest(), float64(time.Minute))
}

// asked counts the commands that a client sends.
type asked struct{ commands atomic.Int64 }

func (a *asked) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (a *asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		a.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// However many scrapes come there is one reader, and it asks no more of 2,000 tasks than of 1.
func TestReadingCostsTheSameHoweverMuchWaits(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	k := setup(t, client)
	k.enqueue(t, tasks.Job{ID: "first", Priority: tasks.PriorityDefault})
	k.gauges.current()
	count := &asked{}
	client.AddHook(count)
	read := func() int64 {
		count.commands.Store(0)
		k.gauges.at = time.Time{}
		var scrapes sync.WaitGroup
		for range 50 {
			scrapes.Go(func() { _, err := k.registry.Gather(); assert.NoError(t, err) })
		}
		scrapes.Wait()
		return count.commands.Load()
	}
	few := read()
	for number := range 2000 {
		k.enqueue(t, tasks.Job{ID: fmt.Sprint("job-", number), Priority: tasks.PriorityDefault})
	}
	assert.Equal(t, few, read())
	assert.Less(t, few, int64(200))
}

// Who does not lead shows nothing of the deployment, and asks nothing.
func TestOnlyTheLeaderShowsIt(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	k := setup(t, client)
	k.leads.Store(false)
	count := &asked{}
	client.AddHook(count)
	names, err := k.registry.Gather()
	require.NoError(t, err)
	require.Len(t, names, 2)
	assert.Equal(t, "forebay_deployment_read_failures_total", names[0].GetName())
	assert.Equal(t, "forebay_leader", names[1].GetName())
	assert.Zero(t, count.commands.Load())
}

// What cannot be read is missing, and is no 0; the rest is there. The failure is not asked for again by every scrape.
func TestWhatCannotBeReadIsMissing(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	k := setup(t, client)
	tries := 0
	k.gauges.config.Workers = func(context.Context) (int, error) { tries++; return 0, errors.New("Redis is away") }
	for range 3 {
		count, err := testutil.GatherAndCount(k.registry, "forebay_workers")
		require.NoError(t, err)
		assert.Zero(t, count)
	}
	assert.Equal(t, 1, tries)
	assert.InDelta(t, 1, testutil.ToFloat64(k.gauges.failed), 0)
	count, err := testutil.GatherAndCount(k.registry, "forebay_open_jobs", "forebay_redis_memory_bytes")
	require.NoError(t, err)
	assert.Equal(t, 2, count)
}
