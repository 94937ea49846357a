package main_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker"
)

// binaryDir holds the program that the tests run.
var binaryDir string

func TestMain(m *testing.M) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "forebay-test-"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(binaryDir)
	os.Exit(status)
}

// buildBinary builds the program as users have it, once, when the first test needs it.
var buildBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "forebay")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Stderr = os.Stderr
	return path, build.Run()
})

// site says what a deployment is made of. A zero field means its default.
type site struct {
	// regions are the provider's, the first the nearest. Defaults to one, "first", that answers at once.
	regions []simulator.RegionConfig
	// limits are those of the regions' endpoints. Defaults to none.
	limits []simulator.Limits
	// slots are those of each worker. Defaults to 16.
	slots int
	// shards is into how many shards the queues are divided. Defaults to 1.
	shards keyspace.Shards
	// callTimeout is the endpoints' timeout. Defaults to 3s.
	callTimeout time.Duration
	// fsync is when Redis makes its writes durable. Defaults to "always": it has lost nothing that it has answered to.
	fsync string
	// servers starts the Redis, says where it is, and which server is killed first. Defaults to one that loses nothing.
	servers func(t testing.TB) redisSite
	// provider stands in front of the simulated one. Defaults to nothing.
	provider func(http.Handler) http.Handler
	// more is what else the configuration has.
	more string
	// redisMore is what else the configuration's section for Redis has.
	redisMore string
	// env is what the processes have in their environment beside the test's.
	env []string
}

// redisSite is a Redis that was started for a test.
type redisSite struct {
	url     string
	client  redis.UniversalClient
	servers []*redistest.Server
}

// deployment is a real redis-server, a simulated provider in the test's process, and forebay's built program,
// configured for both.
type deployment struct {
	t         testing.TB
	site      site
	dir       string
	binary    string
	provider  string // its URL
	redis     redis.UniversalClient
	server    *redistest.Server // the first, or the only one
	servers   []*redistest.Server
	redisURL  string
	sim       *simulator.Simulator
	store     *jobstore.Store
	producer  *producer.Client
	inspector *asynq.Inspector
	file      *config.File
	workers   []*process
}

func deploy(t testing.TB, s site) *deployment {
	t.Helper()
	if len(s.regions) == 0 {
		s.regions = []simulator.RegionConfig{{Name: "first"}}
	}
	if s.slots == 0 {
		s.slots = slots
	}
	if s.callTimeout == 0 {
		s.callTimeout = callTimeout
	}
	s.shards = max(s.shards, 1)
	if s.fsync == "" {
		s.fsync = "always"
	}
	d := &deployment{t: t, site: s, dir: t.TempDir()}
	var err error
	d.binary, err = buildBinary()
	require.NoError(t, err)
	if s.servers == nil {
		s.servers = func(t testing.TB) redisSite {
			t.Helper()
			client, server := redistest.Real(t, "--appendonly", "yes", "--appendfsync", s.fsync)
			return redisSite{server.URL(), client, []*redistest.Server{server}}
		}
	}
	started := s.servers(t)
	d.redis, d.servers, d.server, d.redisURL = started.client, started.servers, started.servers[0], started.url
	d.store, err = jobstore.New(jobstore.Config{Redis: d.redis})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.store.Close() })
	d.sim, err = simulator.New(simulator.Config{Seed: 1, Regions: s.regions})
	require.NoError(t, err)
	var handler http.Handler = d.sim
	if s.provider != nil {
		handler = s.provider(handler)
	}
	provider := httptest.NewServer(handler)
	t.Cleanup(func() {
		_ = d.sim.Close()
		provider.Close()
	})
	d.provider = provider.URL
	d.configure()
	d.producer = d.newProducer()
	d.inspector = asynq.NewInspectorFromRedisClient(d.redis)
	return d
}

// configure writes the shipped example with the simulated regions in the place of its endpoints.
func (d *deployment) configure() {
	text := fmt.Sprintf(`
redis: {url: %q%s}
queues: {shards: %d}
ops: {listen: off} # several processes stand on one machine
worker: {slots: %d, drain_timeout: 10m}
breaker: {failures: %d, recovery: %s}
accounts: {sim: {}}
endpoints:
`, d.redisURL, d.site.redisMore, d.site.shards, d.site.slots, threshold, recovery)
	for i, region := range d.site.regions {
		text += fmt.Sprintf("  %s: {account: sim, url: %q, region: %s, priority: %d, timeout: %s, tries: %d, auth: none, simulated: true%s}\n",
			region.Name, d.provider+"/"+region.Name+"/v1", region.Name, i+1, d.site.callTimeout, max(3-i, 1), d.limitsOf(i))
	}
	text += `
models:
  gemini-2.5-flash: {output: 2.50, context_window: 1048576}
  gpt-4.1-mini: {output: 2.50, context_window: 1047576}
  text-embedding-3-small: {kind: embedding, input: 0.02}
tiers:
  - {name: low, models: [gemini-2.5-flash, gpt-4.1-mini]}
fallback_tier: low
task_types:
  fast_summary:
    model: gemini-2.5-flash
    prompt: "Summarise the following text in three to five sentences.\n\n{{input}}"
` + d.site.more
	path := filepath.Join(d.dir, "forebay.yaml")
	require.NoError(d.t, os.WriteFile(path, []byte(text), 0o600))
	var err error
	d.file, err = config.Load(path)
	require.NoError(d.t, err)
}

// appendConfig adds to the configuration, before the processes start that are to have it.
func (d *deployment) appendConfig(text string) {
	d.t.Helper()
	path := filepath.Join(d.dir, "forebay.yaml")
	before, err := os.ReadFile(path)
	require.NoError(d.t, err)
	require.NoError(d.t, os.WriteFile(path, append(before, text...), 0o600))
	d.file, err = config.Load(path)
	require.NoError(d.t, err)
	d.producer = d.newProducer()
}

// limitsOf is what the configuration says of the limits of a region's endpoint.
func (d *deployment) limitsOf(region int) string {
	if region >= len(d.site.limits) {
		return ""
	}
	l := d.site.limits[region]
	return fmt.Sprintf(", limits: {requests_per_minute: %d, tokens_per_minute: %d}", l.RequestsPerMinute, l.TokensPerMinute)
}

// newProducer returns a way in like that of another process.
func (d *deployment) newProducer() *producer.Client {
	d.t.Helper()
	client, err := producer.New(producer.Config{Redis: d.redis, Catalog: &d.file.Catalog, Shards: d.site.shards})
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (d *deployment) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.t.Context(), d.binary, args...)
	cmd.Dir = d.dir
	if d.site.env != nil {
		cmd.Env = append(os.Environ(), d.site.env...)
	}
	return cmd
}

// process is one of the program that runs beside the test.
type process struct {
	cmd   *exec.Cmd
	log   *stream
	ended chan struct{}
	err   error // once it has ended
}

// launch starts the program.
func (d *deployment) launch(args ...string) (*process, error) {
	p := &process{cmd: d.command(args...), log: &stream{}, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// startWorkers starts workers and waits until they take jobs.
func (d *deployment) startWorkers(n int) []*process {
	d.t.Helper()
	var started []*process
	for range n {
		worker, err := d.launch("worker", "--log-format", "json")
		require.NoError(d.t, err)
		number := len(d.workers)
		d.t.Cleanup(func() {
			worker.kill()
			if d.t.Failed() {
				d.t.Logf("log of worker %d:\n%s", number, lastLines(worker.log.text(), 40))
			}
		})
		d.workers, started = append(d.workers, worker), append(started, worker)
	}
	for _, worker := range started {
		d.eventually("a worker starts", func() bool { return strings.Contains(worker.log.text(), "worker started") })
	}
	return started
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// stopWorkers signals all workers that live, and waits for their end.
func (d *deployment) stopWorkers(signal syscall.Signal) {
	d.t.Helper()
	living := slices.DeleteFunc(slices.Clone(d.workers), func(p *process) bool { return !p.alive() })
	for _, worker := range living {
		require.NoError(d.t, worker.cmd.Process.Signal(signal))
	}
	for _, worker := range living {
		<-worker.ended
		require.NoError(d.t, worker.err, "a drained worker leaves with status 0")
	}
}

// embedWorker starts a worker inside the test, which reaches Redis at the address.
func (d *deployment) embedWorker(addr string) {
	d.t.Helper()
	options := redistest.Options(addr)
	options.PoolSize = d.site.slots + 10
	client := redis.NewClient(options)
	log := &stream{}
	w, err := worker.New(worker.Config{
		Redis: client, Catalog: &d.file.Catalog, Slots: d.site.slots, Log: zerolog.New(log).With().Timestamp().Logger(),
	})
	require.NoError(d.t, err)
	d.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = w.Shutdown(ctx)
		_ = client.Close()
		if d.t.Failed() {
			d.t.Logf("log of the worker:\n%s", lastLines(log.text(), 40))
		}
	})
	require.NoError(d.t, w.Start(d.t.Context()))
}

const text = "Water waits in the pool above the turbines. A gate lets it through when the turbines can take it. " +
	"Nothing is lost while it waits. The pool is called a forebay."

// enqueueJobs accepts n jobs, "<name>-0" and so on, and returns their ids.
func (d *deployment) enqueueJobs(name string, n int, change ...func(*tasks.Job)) []string {
	d.t.Helper()
	var ids []string
	jobs := func(yield func(tasks.Job) bool) {
		for i := range n {
			job := tasks.Job{ID: fmt.Sprintf("%s-%d", name, i), TaskType: "fast_summary", Input: text}
			for _, apply := range change {
				apply(&job)
			}
			if !yield(job) {
				return
			}
		}
	}
	for receipt, err := range d.producer.EnqueueMany(d.t.Context(), jobs) {
		require.NoError(d.t, err)
		require.True(d.t, receipt.Created)
		ids = append(ids, receipt.ID)
	}
	return ids
}

// await waits until the jobs have ended.
func (d *deployment) await(limit time.Duration, ids ...string) []tasks.Result {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	var results []tasks.Result
	for _, id := range ids {
		result, err := d.producer.Wait(ctx, id)
		require.NoError(d.t, err)
		results = append(results, result)
	}
	return results
}

// result reads a job as it stands.
func (d *deployment) result(id string) tasks.Result {
	d.t.Helper()
	result, err := d.producer.Get(d.t.Context(), id)
	require.NoError(d.t, err)
	return result
}

// asked is how many calls the provider has taken.
func (d *deployment) asked() int { return int(d.sim.Counters().Total.Asked) }

func (d *deployment) queue(priority tasks.Priority) *asynq.QueueInfo {
	d.t.Helper()
	info, err := d.inspector.GetQueueInfo(string(priority))
	require.NoError(d.t, err)
	return info
}

// eventually waits until something holds; far longer than it should take, for machines that are busy.
func (d *deployment) eventually(what string, holds func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.Fail(d.t, "waited a minute in vain until "+what)
		}
	}
}

// stream keeps what a worker writes.
type stream struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (s *stream) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.Write(data)
}

func (s *stream) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.String()
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
