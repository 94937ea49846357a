package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker"
)

const (
	benchJobs   = 20_000
	benchSlots  = 100
	benchRounds = 3
)

// BenchmarkThroughput does 20,000 jobs of 1 KB against a provider that answers 1 KB at once, on 100 slots, once with
// Forebay (breaker, ledger, commit and all) and once with bare asynq (one server, the same HTTP transport settings,
// the result stored, retention on), in alternating rounds against one redis-server. It reports jobs a second of both
// and the ratio of their median rounds, and what a job costs in processor time of this process (the provider
// included) and of Redis.
//
// Both sides run under the GOGC that `forebay worker` sets itself, unless the environment has another.
func BenchmarkThroughput(b *testing.B) {
	if os.Getenv("GOGC") == "" {
		before := debug.SetGCPercent(400)
		b.Cleanup(func() { debug.SetGCPercent(before) })
	}
	for b.Loop() {
		client, _ := redistest.Real(b)
		provider := fixedProvider(b)
		var forebay, bare rounds
		for range benchRounds {
			forebay = append(forebay, forebayRound(b, client, provider))
			bare = append(bare, asynqRound(b, client, provider))
		}
		forebay.report(b, "forebay")
		bare.report(b, "asynq")
		b.ReportMetric(forebay.rate()/bare.rate(), "ratio")
	}
}

// round is what 20,000 jobs took: wall time, and processor time of this process (provider included) and of Redis.
type round struct{ wall, process, redis time.Duration }

// measure times what runs until the returned function is called.
func measure(b *testing.B, client *redis.Client) func() round {
	started, process, server := time.Now(), processTime(b), redisTime(b, client)
	return func() round {
		return round{time.Since(started), processTime(b) - process, redisTime(b, client) - server}
	}
}

func processTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func redisTime(b *testing.B, client *redis.Client) time.Duration {
	var sum float64
	for _, line := range strings.Split(client.Info(b.Context(), "cpu").Val(), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			sum += seconds
		}
	}
	return time.Duration(sum * float64(time.Second))
}

type rounds []round

// rate is the jobs a second of the median round.
func (r rounds) rate() float64 {
	return benchJobs / r.median(func(r round) time.Duration { return r.wall }).Seconds()
}

func (r rounds) median(of func(round) time.Duration) time.Duration {
	var times []time.Duration
	for _, one := range r {
		times = append(times, of(one))
	}
	slices.Sort(times)
	return times[len(times)/2]
}

func (r rounds) report(b *testing.B, name string) {
	perJob := func(d time.Duration) float64 { return float64(d.Microseconds()) / benchJobs }
	b.ReportMetric(r.rate(), name+"-jobs/s")
	b.ReportMetric(perJob(r.median(func(r round) time.Duration { return r.process })), name+"-cpu-us/job")
	b.ReportMetric(perJob(r.median(func(r round) time.Duration { return r.redis })), name+"-redis-us/job")
}

// fixedProvider is a simulated provider that answers 1 KB at once.
func fixedProvider(b *testing.B) string {
	sim, err := simulator.New(simulator.Config{MaxJobs: simulator.NoJobs, Regions: []simulator.RegionConfig{
		{Name: "sim", Answer: simulator.AnswerFixed, AnswerBytes: 1024},
	}})
	require.NoError(b, err)
	server := httptest.NewServer(sim)
	b.Cleanup(func() {
		_ = sim.Close()
		server.Close()
	})
	return server.URL + "/v1"
}

func forebayRound(b *testing.B, client *redis.Client, provider string) round {
	require.NoError(b, client.FlushAll(b.Context()).Err())
	price := 1.0
	cat := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"a": {}},
		Endpoints: map[string]*catalog.Endpoint{"sim": {
			Account: "a", URL: provider, Region: "r", Priority: 1, Timeout: 30 * time.Second, Tries: 3, Auth: catalog.AuthNone,
		}},
		Models:       map[string]*catalog.Model{"m": {Output: &price}},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"m"}}},
		FallbackTier: "low",
		TaskTypes:    map[string]*catalog.TaskType{"t": {Model: "m"}},
	}
	require.NoError(b, cat.Validate())
	enqueueForebay(b, client, cat)

	options := *client.Options()
	options.PoolSize = benchSlots + 10
	workerClient := redis.NewClient(&options)
	defer func() { _ = workerClient.Close() }()
	registry := prometheus.NewRegistry() // as `forebay worker` counts
	workerClient.AddHook(metrics.RedisHook(registry))
	w, err := worker.New(worker.Config{Redis: workerClient, Catalog: cat, Slots: benchSlots, Registerer: registry, Log: zerolog.Nop()})
	require.NoError(b, err)
	took := measure(b, client)
	require.NoError(b, w.Start(b.Context()))
	waitFor(b, func() bool {
		done := int64(0)
		for shard := range 16 {
			done += client.ZCard(b.Context(), fmt.Sprintf("forebay:{idx:%x}:ended", shard)).Val()
		}
		return done == benchJobs
	})
	result := took()
	require.NoError(b, w.Shutdown(b.Context()))
	return result
}

func enqueueForebay(b *testing.B, client *redis.Client, cat *catalog.Catalog) {
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(b, err)
	defer func() { _ = store.Close() }()
	pipe, err := client.AutoPipeline()
	require.NoError(b, err)
	queue := asynq.NewClientFromRedisClient(pipe)
	var group errgroup.Group
	group.SetLimit(64)
	for i := range benchJobs {
		group.Go(func() error {
			prepared, err := cat.Prepare(tasks.Job{
				ID: fmt.Sprintf("job-%d", i), TaskType: "t", Input: strings.Repeat("x", 900),
			}, time.Now())
			if err != nil {
				return err
			}
			if _, err := store.Create(b.Context(), jobstore.NewJob(prepared)); err != nil {
				return err
			}
			task, enqueueOptions, err := envelope.New(store.Keys(), prepared.Job, "", 1)
			if err != nil {
				return err
			}
			_, err = queue.Enqueue(task, enqueueOptions...)
			return err
		})
	}
	require.NoError(b, group.Wait())
}

func asynqRound(b *testing.B, client *redis.Client, provider string) round {
	require.NoError(b, client.FlushAll(b.Context()).Err())
	body, err := json.Marshal(map[string]any{
		"model": "m", "max_tokens": 1024,
		"messages": []map[string]string{{"role": "user", "content": strings.Repeat("x", 900)}},
	})
	require.NoError(b, err)
	queue := asynq.NewClientFromRedisClient(client)
	var group errgroup.Group
	group.SetLimit(64)
	for range benchJobs {
		group.Go(func() error {
			_, err := queue.Enqueue(asynq.NewTask("completion", body), asynq.Retention(time.Hour), asynq.Timeout(time.Hour))
			return err
		})
	}
	require.NoError(b, group.Wait())

	httpClient := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchSlots}}
	var done atomic.Int64
	options := *client.Options()
	options.PoolSize = benchSlots + 10
	serverClient := redis.NewClient(&options)
	defer func() { _ = serverClient.Close() }()
	server := asynq.NewServerFromRedisClient(serverClient, asynq.Config{Concurrency: benchSlots, LogLevel: asynq.FatalLevel})
	took := measure(b, client)
	require.NoError(b, server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, provider+"/chat/completions", strings.NewReader(string(task.Payload())))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := httpClient.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		_, err = task.ResultWriter().Write(answer)
		done.Add(1)
		return err
	})))
	waitFor(b, func() bool { return client.ZCard(b.Context(), "asynq:{default}:completed").Val() == benchJobs })
	result := took()
	server.Shutdown()
	require.GreaterOrEqual(b, done.Load(), int64(benchJobs))
	return result
}

func waitFor(tb testing.TB, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatal("not done within 5 minutes")
		}
	}
}
