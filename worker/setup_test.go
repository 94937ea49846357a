package worker_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker"
)

// bench is a worker in fake time, with an embedded Redis and a simulated provider, all reached through memory.
// Its catalog has the models small and large (of a larger window) in one tier and other in the fallback tier, served
// by the endpoints a-1 (3 tries) and a-2 (2) of account a, and b-1 (1) of account b.
type bench struct {
	t       *testing.T
	redis   *redis.Client
	server  *miniredis.Miniredis
	sim     *simulator.Simulator
	catalog *catalog.Catalog
	store   *jobstore.Store
	gate    *gate.Gate
	worker  *worker.Worker
	dial    func(context.Context, string, string) (net.Conn, error)
	log     zerolog.Logger
	jobs    int
}

// inBubble runs a test in fake time on a fresh bench.
func inBubble(t *testing.T, test func(t *testing.T, b *bench), change ...func(*catalog.Catalog)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, change...)
		test(t, b)
	})
}

func newBench(t *testing.T, change ...func(*catalog.Catalog)) *bench {
	t.Helper()
	client, server := redistest.InBubble(t)
	sim, err := simulator.New(simulator.Config{Regions: []simulator.RegionConfig{
		{Name: "a-1", Latency: latency(100), Slow: 2 * time.Second}, {Name: "a-2", Latency: latency(200)}, {Name: "b-1", Latency: latency(300)},
	}})
	require.NoError(t, err)
	listener := sim.Listen()
	t.Cleanup(func() {
		_ = sim.Close()
		_ = listener.Close()
	})
	b := &bench{t: t, redis: client, server: server, sim: sim, catalog: testCatalog(t, change...), dial: listener.DialContext}
	b.store, err = jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.store.Close() })
	b.gate = gate.New(client, keyspace.New(""), b.catalog)
	b.worker = b.newWorker()
	return b
}

func latency(ms int) simulator.Distribution {
	return simulator.Distribution{Min: time.Duration(ms) * time.Millisecond}
}

func testCatalog(t *testing.T, change ...func(*catalog.Catalog)) *catalog.Catalog {
	t.Helper()
	price := 1.0
	endpoint := func(account, name string, priority, tries int) *catalog.Endpoint {
		return &catalog.Endpoint{
			Account: account, URL: "http://sim/" + name + "/v1", Region: "region-" + name, Priority: priority,
			Tries: tries, Timeout: 10 * time.Second, Auth: catalog.AuthNone,
		}
	}
	c := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"a": {}, "b": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"a-1": endpoint("a", "a-1", 1, 3), "a-2": endpoint("a", "a-2", 2, 2), "b-1": endpoint("b", "b-1", 3, 1),
		},
		Models: map[string]*catalog.Model{
			"small": {Output: &price, ContextWindow: 1000}, "large": {Output: &price, ContextWindow: 9000},
			"other": {Output: &price, ContextWindow: 1000},
		},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"small", "large"}}, {Name: "high", Models: []string{"other"}}},
		FallbackTier: "high",
		TaskTypes:    map[string]*catalog.TaskType{"summary": {Model: "small", Prompt: "Summarise:\n\n{{input}}"}},
	}
	for _, apply := range change {
		apply(c)
	}
	require.NoError(t, c.Validate())
	return c
}

// newWorker returns a worker that is not started: the test hands it its deliveries.
func (b *bench) newWorker() *worker.Worker {
	b.t.Helper()
	w, err := worker.New(worker.Config{Redis: b.redis, Catalog: b.catalog, Dial: b.dial, Slots: 4, Log: b.log})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, w.Shutdown(context.Background())) })
	return w
}

const document = "Water waits in the pool above the turbines. A gate lets it through when the turbines can take it. " +
	"Nothing is lost while it waits. The pool is called a forebay."

// job puts a job into the store, as a way in does.
func (b *bench) job(change ...func(*tasks.Job)) string {
	b.t.Helper()
	b.jobs++
	job := tasks.Job{ID: fmt.Sprintf("job-%d", b.jobs), TaskType: "summary", Input: document}
	for _, apply := range change {
		apply(&job)
	}
	prepared, err := b.catalog.Prepare(job, time.Now())
	require.NoError(b.t, err)
	_, err = b.store.Create(b.t.Context(), jobstore.NewJob(prepared))
	require.NoError(b.t, err)
	return prepared.Job.ID
}

// deliver makes one delivery of the job, as asynq does.
func (b *bench) deliver(id string) error { return b.deliverTo(b.worker, id) }

func (b *bench) deliverTo(w *worker.Worker, id string) error {
	b.t.Helper()
	record, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	task, _, err := envelope.New(b.store.Keys(), record.Job, record.Shard, record.Run)
	require.NoError(b.t, err)
	return w.ProcessTask(b.t.Context(), task)
}

// finish delivers the job again and again, at the times that the worker asks for, until it has ended. It returns the
// result and the number of deliveries.
func (b *bench) finish(id string) (tasks.Result, int) {
	b.t.Helper()
	for deliveries := 1; deliveries < 100; deliveries++ {
		err := b.deliver(id)
		result := b.result(id)
		if result.Status.Ended() {
			return result, deliveries
		}
		require.Error(b.t, err, "a job that has not ended goes back into the queue")
		require.NotErrorIs(b.t, err, asynq.SkipRetry)
		require.NotNil(b.t, result.Waiting)
		time.Sleep(time.Until(result.Waiting.Until) + time.Millisecond)
	}
	b.t.Fatalf("job %s did not end within 100 deliveries", id)
	return tasks.Result{}, 0
}

func (b *bench) result(id string) tasks.Result {
	b.t.Helper()
	record, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	return record.Result()
}

func (b *bench) outage(endpoint string, kinds ...string) {
	b.t.Helper()
	require.NoError(b.t, b.sim.Region(endpoint).SetOutage(kinds...))
}

// asked are the endpoints of the job's calls in order: "a-1 a-1 a-2".
func asked(result tasks.Result) string {
	var names []string
	for _, attempt := range result.Attempts {
		names = append(names, attempt.Endpoint)
	}
	return strings.Join(names, " ")
}

func (b *bench) breaker(endpoint string) gate.EndpointState {
	b.t.Helper()
	states, err := b.gate.Endpoints(b.t.Context(), []gate.Endpoint{{Account: endpoint[:1], Name: endpoint}})
	require.NoError(b.t, err)
	return states[0]
}

// lines keeps what was logged, by whatever goroutine.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// String is all of it.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
