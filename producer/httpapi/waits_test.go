package httpapi_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// waits are many requests that wait for jobs of their own, on a server on loopback and a real Redis.
type waits struct {
	client *redis.Client
	store  *jobstore.Store
	url    string
	http   *http.Client

	mu    sync.Mutex
	seen  map[string]time.Time // when the answer of a job's wait was there
	ended sync.WaitGroup
}

func newWaits(t testing.TB) *waits {
	t.Helper()
	_, server := redistest.Real(t)
	options := redistest.Options(server.Addr)
	options.PoolSize = 64
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	jobs, err := producer.New(producer.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = jobs.Close() })
	api, err := httpapi.Handler(httpapi.Config{Client: jobs})
	require.NoError(t, err)
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	url := serve(t, api)
	transport := &http.Transport{MaxConnsPerHost: 0, MaxIdleConnsPerHost: -1, DialContext: (&net.Dialer{}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &waits{client: client, store: store, url: url, http: &http.Client{Transport: transport}, seen: map[string]time.Time{}}
}

// serve serves an API on loopback for as long as the test lasts.
func serve(t testing.TB, api *httpapi.API) string {
	t.Helper()
	return serveOver(t, api, nil)
}

func serveOver(t testing.TB, api *httpapi.API, secure *tls.Config) string {
	t.Helper()
	listener, err := httpapi.Listen(context.Background(), "127.0.0.1:0")
	require.NoError(t, err)
	server := httpapi.NewServer(api, zerolog.Nop())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener, secure) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, server.Shutdown(ctx))
		require.NoError(t, <-stopped)
	})
	return "http://" + listener.Addr().String()
}

// begin creates jobs that run, and has one request wait for each; it returns once all wait.
func (w *waits) begin(t testing.TB, count int) []string {
	t.Helper()
	ids := make([]string, count)
	news := make([]jobstore.NewJob, count)
	for i := range ids {
		ids[i] = fmt.Sprintf("job-%d", i)
		news[i] = jobstore.NewJob{Fingerprint: "f", Job: tasks.Job{
			ID: ids[i], TaskType: "fast_summary", Tenant: "default", Priority: tasks.PriorityDefault, Request: []byte(`{}`),
		}}
	}
	_, errs := w.store.CreateMany(t.Context(), news)
	for _, err := range errs {
		require.NoError(t, err)
	}
	for _, id := range ids {
		w.ended.Add(1)
		go w.wait(t, id)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		channels, err := w.client.PubSubChannels(t.Context(), w.store.Keys().JobDone("*")).Result()
		require.NoError(t, err)
		if len(channels) == count {
			break
		}
		require.True(t, time.Now().Before(deadline), "%d of %d wait", len(channels), count)
		time.Sleep(100 * time.Millisecond)
	}
	return ids
}

func (w *waits) wait(t testing.TB, id string) {
	t.Helper()
	defer w.ended.Done()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, w.url+"/v1/jobs/"+id+"?wait=60s", nil)
	if err != nil {
		t.Error(err)
		return
	}
	answer, err := w.http.Do(request)
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	at := time.Now()
	var result tasks.Result
	if err != nil || json.Unmarshal(body, &result) != nil || result.Status != tasks.StatusSucceeded || result.ID != id {
		t.Errorf("%s: %d %s %v", id, answer.StatusCode, body, err)
	}
	w.mu.Lock()
	w.seen[id] = at
	w.mu.Unlock()
}

// finish commits the results, so many a second, and returns how long after each commit its wait was answered.
func (w *waits) finish(t testing.TB, ids []string, perSecond int) []time.Duration {
	t.Helper()
	committed := map[string]time.Time{}
	begun := time.Now()
	for i, id := range ids {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		committed[id] = time.Now() // before, so that what is measured is rather too much
		reply, err := w.store.Commit(context.Background(), jobstore.Commit{
			ID: id, Run: 1, Status: tasks.StatusSucceeded, Result: tasks.Result{Text: "short"}, Response: []byte(`{"choices":[]}`),
		})
		require.NoError(t, err)
		require.True(t, reply.Committed)
	}
	w.ended.Wait()
	took := make([]time.Duration, 0, len(ids))
	for id, at := range w.seen {
		took = append(took, at.Sub(committed[id]))
	}
	slices.Sort(took)
	return took
}

var commandCalls = regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`)

// commands are how often each command was called since the server began.
func (w *waits) commands(t testing.TB) map[string]int {
	t.Helper()
	info, err := w.client.Info(context.Background(), "commandstats").Result()
	require.NoError(t, err)
	calls := map[string]int{}
	for _, match := range commandCalls.FindAllStringSubmatch(info, -1) {
		calls[match[1]], _ = strconv.Atoi(match[2])
	}
	return calls
}

// since is what was called since then, but for what counts the calls.
func since(before, now map[string]int) (all int, by map[string]int) {
	by = map[string]int{}
	for command, calls := range now {
		if command != "info" && calls > before[command] {
			by[command] = calls - before[command]
			all += by[command]
		}
	}
	return all, by
}

// Some hundred waits cost nothing while they last, and one read each when they end.
func TestWaitsSendNothing(t *testing.T) {
	t.Parallel()
	w := newWaits(t)
	ids := w.begin(t, 300)
	time.Sleep(time.Second) // what was subscribed last is still read once more
	before := w.commands(t)
	time.Sleep(3 * time.Second)
	idle, by := since(before, w.commands(t))
	require.LessOrEqual(t, idle, 3, "%v", by) // the client's own pings, and one subscription of the hub's
	before = w.commands(t)
	w.finish(t, ids, 300)
	_, by = since(before, w.commands(t))
	require.LessOrEqual(t, by["hgetall"], 300+3)
}

// BenchmarkWaits has 5,000 requests wait for jobs of their own in one process, and commits the results at 500 a second:
// what a fleet of workers may do. Client and server share a process, and so its 10,000 sockets.
func BenchmarkWaits(b *testing.B) {
	const count, perSecond = 5000, 500
	var limit syscall.Rlimit
	require.NoError(b, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = limit.Max
	require.NoError(b, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur < 2*count+500 {
		b.Skipf("%d open files are allowed, and %d needed: raise ulimit -n", limit.Cur, 2*count+500)
	}
	for b.Loop() {
		w := newWaits(b)
		ids := w.begin(b, count)
		time.Sleep(3 * time.Second)
		before := w.commands(b)
		const idleFor = 10 * time.Second
		time.Sleep(idleFor)
		idle, by := since(before, w.commands(b))
		b.Logf("idle for %s: %v", idleFor, by)
		before = w.commands(b)
		took := w.finish(b, ids, perSecond)
		_, by = since(before, w.commands(b))
		b.Logf("to the end: %v", by)
		at := func(part float64) float64 {
			return float64(took[int(part*float64(len(took)-1))].Microseconds()) / 1000
		}
		b.ReportMetric(float64(idle)/idleFor.Seconds(), "idle-commands/s")
		b.ReportMetric(at(0.5), "p50-ms")
		b.ReportMetric(at(0.99), "p99-ms")
		b.ReportMetric(at(1), "max-ms")
	}
}
