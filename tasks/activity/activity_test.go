package activity_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// planted stands in all that no event and no counter may show.
const planted = "PLANTED-CONTENT"

func newCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	cheap, dear := 1.0, 10.0
	c := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"local": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"here":  {Account: "local", Priority: 1, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone},
			"there": {Account: "local", Priority: 2, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone},
		},
		Models:       map[string]*catalog.Model{"small": {Input: &cheap, Output: &cheap}, "large": {Input: &dear, Output: &dear}},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"small"}}, {Name: "high", Models: []string{"large"}}},
		FallbackTier: "low",
		TaskTypes:    map[string]*catalog.TaskType{"summary": {Model: "small", Prompt: "{{input}}"}},
	}
	require.NoError(t, c.Validate())
	return c
}

func onAll(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(t, client)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Real(t)
		test(t, client)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Cluster(t)
		test(t, client)
	})
}

// model is what the report is to say.
type model struct {
	ended            map[tasks.Status]int64
	codes            map[string]int64
	attempts, failed int64
	throttled        int64
	tokens           int64
	nanos, dearest   int64
	calls, jobs      []time.Duration
}

// Percentiles and sums that many processes have counted at the same time are those of one that has seen everything.
func TestManyProcessesAddUp(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		keys, known := keyspace.New("other:"), newCatalog(t)
		want, begun := model{ended: map[tasks.Status]int64{}, codes: map[string]int64{}}, time.Now()
		var mutex sync.Mutex
		var group sync.WaitGroup
		for process := range 6 {
			group.Go(func() {
				r := activity.New(client, keys, nil, zerolog.Nop())
				random := rand.New(rand.NewPCG(7, uint64(process)))
				for i := range 200 {
					mutex.Lock()
					want.one(r, known, random, fmt.Sprintf("job-%d-%d", process, i))
					mutex.Unlock()
				}
				r.Close(context.WithoutCancel(t.Context()))
			})
		}
		group.Wait()
		for _, window := range []string{"15m", "24h"} {
			got, err := activity.Read(t.Context(), client, keys, activity.Windows[window], begun.Add(5*time.Second))
			require.NoError(t, err)
			want.check(t, got)
		}
	})
}

// one has a job end, with some calls, in a Recorder and in the model.
func (m *model) one(r *activity.Recorder, known *catalog.Catalog, random *rand.Rand, id string) {
	took := time.Duration(1+random.IntN(60_000)) * time.Millisecond
	status := []tasks.Status{tasks.StatusSucceeded, tasks.StatusSucceeded, tasks.StatusFailed, tasks.StatusCancelled, tasks.StatusExpired}[random.IntN(5)]
	ended := time.Now()
	created := ended.Add(-took)
	job := tasks.Job{ID: id, TaskType: "summary", Tenant: "acme", Kind: tasks.KindChat, Request: []byte(`{"x":"` + planted + `"}`)}
	result := tasks.Result{ID: id, Run: 1, Model: "small", Endpoint: "here", Text: planted, CreatedAt: &created, FinishedAt: &ended}
	if status != tasks.StatusSucceeded {
		code := []string{"timeout", "no_route"}[random.IntN(2)]
		result.Error = &tasks.Failure{Class: tasks.ClassUnavailable, Code: code, Message: planted}
		m.codes[code]++
	}
	for range random.IntN(4) {
		m.call(r, known, random, job)
	}
	r.Accepted(1)
	r.Ended(known, job, status, result)
	m.ended[status]++
	m.jobs = append(m.jobs, took)
}

func (m *model) call(r *activity.Recorder, known *catalog.Catalog, random *rand.Rand, job tasks.Job) {
	latency := time.Duration(1+random.IntN(20_000)) * time.Millisecond
	attempt := tasks.Attempt{Endpoint: []string{"here", "there"}[random.IntN(2)], Model: "small"}
	switch random.IntN(4) {
	case 0:
		attempt.Class = tasks.ClassThrottled
		m.throttled++
		m.failed++
	case 1:
		attempt.Class = tasks.ClassUnavailable
		m.failed++
	default:
		usage := tasks.Usage{PromptTokens: random.IntN(2000), CompletionTokens: random.IntN(500)}
		attempt.Usage, attempt.CostUSD = &usage, known.Cost("small", usage)
		_, dearest := known.DearestCost(tasks.KindChat, usage)
		m.tokens += int64(usage.PromptTokens + usage.CompletionTokens)
		m.nanos += int64(math.Round(attempt.CostUSD * 1e9))
		m.dearest += int64(math.Round(dearest * 1e9))
	}
	m.attempts++
	m.calls = append(m.calls, latency)
	r.Attempted(known, job, attempt, true, latency)
}

func (m *model) check(t *testing.T, got activity.Report) {
	t.Helper()
	var sums activity.Point
	for _, p := range got.Points {
		sums.Accepted += p.Accepted
		sums.Succeeded += p.Succeeded
		sums.Failed += p.Failed
		sums.Cancelled += p.Cancelled
		sums.Expired += p.Expired
		sums.Attempts += p.Attempts
		sums.AttemptsFailed += p.AttemptsFailed
		sums.Throttled += p.Throttled
		sums.Tokens += p.Tokens
	}
	require.LessOrEqual(t, len(got.Points), 400)
	require.Equal(t, activity.Point{
		Accepted: int64(len(m.jobs)), Succeeded: m.ended[tasks.StatusSucceeded], Failed: m.ended[tasks.StatusFailed],
		Cancelled: m.ended[tasks.StatusCancelled], Expired: m.ended[tasks.StatusExpired],
		Attempts: m.attempts, AttemptsFailed: m.failed, Throttled: m.throttled, Tokens: m.tokens,
	}, sums)
	require.InDelta(t, float64(m.nanos)/1e9, got.CostUSD, 1e-6)
	require.InDelta(t, float64(m.dearest)/1e9, got.DearestUSD, 1e-6)
	codes := map[string]int64{}
	for _, code := range got.Codes {
		codes[code.Code] = code.Count
	}
	require.Equal(t, m.codes, codes)
	require.Len(t, got.TaskTypes, 1)
	require.Equal(t, "summary", got.TaskTypes[0].Name)
	require.InDelta(t, got.CostUSD, got.TaskTypes[0].CostUSD, 1e-6)
	var attempts int64
	for _, endpoint := range got.Endpoints {
		attempts += endpoint.Attempts
		require.NotNil(t, endpoint.P95MS)
	}
	require.Equal(t, m.attempts, attempts)
}

// Quantiles are those of what was counted, within the width of a bucket, wherever it was counted.
func TestQuantilesAreRightWithinABucket(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	keys, known, random := keyspace.New(""), newCatalog(t), rand.New(rand.NewPCG(3, 4))
	recorders := []*activity.Recorder{}
	for range 4 {
		recorders = append(recorders, activity.New(client, keys, nil, zerolog.Nop()))
	}
	var all []float64
	for i := range 3000 {
		ms := math.Exp(random.NormFloat64()*1.5 + 6)
		all = append(all, max(1, ms))
		recorders[i%4].Attempted(known, tasks.Job{Kind: tasks.KindChat}, tasks.Attempt{Endpoint: "here", Model: "small"}, true, time.Duration(ms*float64(time.Millisecond)))
	}
	for _, r := range recorders {
		r.Close(t.Context())
	}
	got, err := activity.Read(t.Context(), client, keys, time.Hour, time.Now())
	require.NoError(t, err)
	require.Len(t, got.Endpoints, 1)
	slices.Sort(all)
	for share, said := range map[float64]*float64{0.5: got.Endpoints[0].P50MS, 0.95: got.Endpoints[0].P95MS} {
		require.NotNil(t, said)
		exact := all[int(math.Ceil(share*float64(len(all))))-1]
		require.InEpsilon(t, exact, *said, 0.095, "share %v", share)
	}
}

// A window in which nothing happened has no percentiles and no rates: null, never 0.
func TestWhatNobodyHasIsNull(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	for name, window := range activity.Windows {
		got, err := activity.Read(t.Context(), client, keyspace.New(""), window, time.Now())
		require.NoError(t, err)
		text, err := tasks.Encode(got)
		require.NoError(t, err)
		require.LessOrEqual(t, len(got.Points), 400, name)
		require.Equal(t, len(got.Points), strings.Count(string(text), `"job_p95_ms":null`), name)
		require.Contains(t, string(text), `"task_types":[]`)
	}
}

// Every field of an event is there, and nothing of what was asked or answered; the stream is capped.
func TestEventsOfJobs(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		keys, known := keyspace.New(""), newCatalog(t)
		r, m := activity.New(client, keys, nil, zerolog.Nop()), model{ended: map[tasks.Status]int64{}, codes: map[string]int64{}}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 50 {
			m.one(r, known, random, fmt.Sprintf("job-%d", i))
		}
		r.Retried(known, tasks.Job{ID: "again", Tenant: "acme", Priority: tasks.PriorityBulk}, 2, &tasks.Failure{Class: tasks.ClassUnavailable, Code: "a " + planted, Message: planted}, 3)
		r.Close(t.Context())
		entries, err := client.XRange(t.Context(), keys.JobEvents(), "-", "+").Result()
		require.NoError(t, err)
		require.Len(t, entries, 51)
		for _, entry := range entries {
			require.NotContains(t, fmt.Sprint(entry.Values), planted)
			at, err := time.Parse(events.Layout, entry.Values["at"].(string))
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), at, time.Minute)
		}
		last := entries[50].Values
		require.Equal(t, "job.retrying", last["type"])
		require.Equal(t, "3", last["attempts"])
		require.Equal(t, "2", last["run"])
		require.Equal(t, "other", last["code"], "a provider's own code may hold anything")
		require.NotContains(t, last, "took_ms")
	})
}

func TestTheStreamIsCapped(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	keys, known := keyspace.New(""), newCatalog(t)
	for range 3 {
		r := activity.New(client, keys, nil, zerolog.Nop())
		for i := range events.Most {
			r.Ended(known, tasks.Job{ID: fmt.Sprint(i)}, tasks.StatusSucceeded, tasks.Result{})
		}
		r.Close(t.Context())
	}
	length := client.XLen(t.Context(), keys.JobEvents()).Val()
	require.GreaterOrEqual(t, length, int64(events.Most))
	require.Less(t, length, int64(events.Most+500), "Redis trims whole nodes")
}

// While Redis is away nobody waits; what could not be written is counted, and afterwards all goes on.
func TestRedisAwayAndBack(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	keys, known, registry := keyspace.New(""), newCatalog(t), prometheus.NewRegistry()
	r := activity.New(client, keys, registry, zerolog.Nop())
	server.SetError("LOADING Redis is away")
	began := time.Now()
	for range 10_000 {
		r.Ended(known, tasks.Job{ID: "lost"}, tasks.StatusSucceeded, tasks.Result{})
	}
	require.Less(t, time.Since(began), 5*time.Second)
	require.Eventually(t, func() bool { return r.Dropped() == 10_000 }, 20*time.Second, 10*time.Millisecond)
	server.SetError("")
	r.Ended(known, tasks.Job{ID: "kept"}, tasks.StatusSucceeded, tasks.Result{})
	require.Eventually(t, func() bool { return client.XLen(t.Context(), keys.JobEvents()).Val() == 1 }, 20*time.Second, 10*time.Millisecond)
	r.Close(t.Context())
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	require.InDelta(t, 10_000, families[0].GetMetric()[0].GetCounter().GetValue(), 0)
}

// A Recorder that nobody made counts nothing, and one that is closed no more.
func TestNoRecorder(t *testing.T) {
	t.Parallel()
	var none *activity.Recorder
	none.Accepted(1)
	none.Ended(nil, tasks.Job{}, tasks.StatusFailed, tasks.Result{})
	none.Retried(nil, tasks.Job{}, 1, nil, 0)
	none.Close(t.Context())
	client, _ := redistest.Embedded(t)
	r := activity.New(client, keyspace.New(""), nil, zerolog.Nop())
	r.Close(t.Context())
	r.Accepted(1)
	r.Close(t.Context())
	keys, err := client.Keys(t.Context(), "*").Result()
	require.True(t, err == nil || errors.Is(err, redis.Nil))
	require.Empty(t, keys)
}

// What a delivery pays for its end and its call being counted. Run it with -cpu 8: the lock is shared.
func BenchmarkRecorder(b *testing.B) {
	client, _ := redistest.Real(b)
	known := newCatalog(b)
	r := activity.New(client, keyspace.New(""), nil, zerolog.Nop())
	now := time.Now()
	job := tasks.Job{ID: "job", TaskType: "summary", Tenant: "acme", Kind: tasks.KindChat}
	result := tasks.Result{Run: 1, Model: "small", Endpoint: "here", CreatedAt: &now, FinishedAt: &now}
	attempt := tasks.Attempt{Endpoint: "here", Model: "small", Usage: &tasks.Usage{PromptTokens: 10, CompletionTokens: 10}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Attempted(known, job, attempt, true, time.Second)
			r.Ended(known, job, tasks.StatusSucceeded, result)
		}
	})
	b.StopTimer()
	r.Close(context.Background())
}
