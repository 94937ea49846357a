package asynqredis_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
	"github.com/forebay-queue/forebay/worker/internal/slots"
)

func TestMain(m *testing.M) {
	asynqredis.AsynqSources() // before any bubble
	goleak.VerifyTestMain(m)
}

// worker is one process's server of the queue "default", with what a test asks it.
type worker struct {
	t      testing.TB
	rdb    redis.UniversalClient
	client *asynqredis.Client
	pool   *slots.Pool
	server *asynq.Server
	queue  *asynq.Client
	logs   *lines
}

// newWorker makes a worker with size slots whose server does not run.
func newWorker(t testing.TB, rdb redis.UniversalClient, size int) *worker {
	t.Helper()
	pool, logs := slots.New(size), &lines{}
	client, err := asynqredis.New(asynqredis.Config{
		Client: rdb, Queue: "default", Lane: pool.Queue("default", 3), Log: zerolog.New(logs),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	loadScripts(t, rdb)
	return &worker{
		t: t, rdb: rdb, client: client, pool: pool, queue: asynq.NewClientFromRedisClient(rdb), logs: logs,
	}
}

// loadScripts lets Redis know every script, so that faults hit the script and not the question for its text.
func loadScripts(t testing.TB, rdb redis.UniversalClient) {
	t.Helper()
	sources := append(slices.Collect(maps.Values(asynqredis.AsynqSources())), asynqredis.OwnSources...)
	for _, source := range sources {
		require.NoError(t, rdb.ScriptLoad(t.Context(), source).Err())
	}
}

// serve starts the server.
func (w *worker) serve(handler asynq.HandlerFunc, change ...func(*asynq.Config)) *worker {
	w.t.Helper()
	config := asynqredis.ServerConfig("default", w.pool.Stats().Size)
	config.Logger = silent{}
	config.ShutdownTimeout = time.Minute
	for _, f := range change {
		f(&config)
	}
	w.server = asynq.NewServerFromRedisClient(w.client, config)
	require.NoError(w.t, w.server.Start(w.client.Handler(handler)))
	return w
}

// shutdown ends the worker as a process does at its first signal, and checks that every slot came back.
func (w *worker) shutdown() {
	w.t.Helper()
	w.client.Stop()
	w.server.Shutdown()
	require.Zero(w.t, w.pool.Stats().Busy, "slots in use after the end: %+v", w.pool.Stats())
}

// enqueue adds tasks with the given ids, in that order.
func (w *worker) enqueue(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		_, err := w.queue.Enqueue(asynq.NewTask("work", []byte(id)), asynq.TaskID(id), asynq.MaxRetry(1000))
		require.NoError(w.t, err)
	}
}

// dequeue asks as asynq does, and returns the id of the task (its payload here), or "" for none.
func (w *worker) dequeue() string {
	w.t.Helper()
	msg, err := w.client.EvalSha(context.Background(), "a8153319360adc71cdc370107f8ab9786f204765",
		[]string{key("pending"), key("paused"), key("active"), key("lease")},
		time.Now().Add(30*time.Second).Unix(), key("t:")).Text()
	if errors.Is(err, redis.Nil) {
		return ""
	}
	require.NoError(w.t, err)
	_, rest, _ := strings.Cut(msg, "\x0a\x04work\x12")
	return rest[1 : 1+rest[0]]
}

// list returns a list of the queue, oldest first.
func (w *worker) list(name string) []string {
	w.t.Helper()
	ids, err := w.rdb.LRange(context.Background(), key(name), 0, -1).Result()
	require.NoError(w.t, err)
	slices.Reverse(ids)
	return ids
}

func (w *worker) busy() int { return w.pool.Stats().Busy }

// idle says whether nothing of the queue is left anywhere.
func (w *worker) idle() bool {
	ctx := context.Background()
	return w.rdb.LLen(ctx, key("pending")).Val()+w.rdb.LLen(ctx, key("active")).Val()+
		w.rdb.ZCard(ctx, key("lease")).Val()+w.rdb.ZCard(ctx, key("retry")).Val() == 0
}

func key(name string) string { return "asynq:{default}:" + name }

// numbered returns ids 1 to n.
func numbered(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%03d", i+1)
	}
	return ids
}

// record collects the ids that handlers see.
type record struct {
	mu  sync.Mutex
	ids []string
}

func (r *record) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, id)
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

// handler records each call.
func (r *record) handler(_ context.Context, task *asynq.Task) error {
	r.add(string(task.Payload()))
	return nil
}

// lines is a log that a test reads.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// faults lets commands fail, before they are sent or with their reply lost.
type faults struct {
	sent atomic.Int64 // commands, without those of the peek
	// completions are those of complete.lua.
	completions atomic.Int64

	mu     sync.Mutex
	before func(cmd redis.Cmder) bool
	after  func(cmd redis.Cmder) bool
	then   func() // called once with the next hit of after, instead of the fault
}

func newFaults(rdb redis.UniversalClient) *faults {
	f := &faults{}
	rdb.AddHook(f)
	return f
}

// dropReplies loses the replies of the next n commands that contain the text in an argument.
func (f *faults) dropReplies(n int, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = countdown(n, text)
}

// between calls the function once, after the reply to the next command that contains the text in an argument.
func (f *faults) between(text string, then func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after, f.then = countdown(1, text), then
}

// refuse breaks the connection before the next n commands that contain the text in an argument.
func (f *faults) refuse(n int, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = countdown(n, text)
}

func countdown(n int, text string) func(redis.Cmder) bool {
	return func(cmd redis.Cmder) bool {
		if n > 0 && strings.Contains(fmt.Sprintln(cmd.Args()...), text) {
			n--
			return true
		}
		return false
	}
}

func (f *faults) hits(match func(*faults) func(redis.Cmder) bool, cmds ...redis.Cmder) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := match(f)
	return m != nil && slices.ContainsFunc(cmds, m)
}

func (f *faults) run(cmds []redis.Cmder, next func() error) error {
	broken := func() error {
		for _, cmd := range cmds {
			cmd.SetErr(io.ErrUnexpectedEOF)
		}
		return io.ErrUnexpectedEOF
	}
	if f.hits(func(f *faults) func(redis.Cmder) bool { return f.before }, cmds...) {
		return broken()
	}
	f.sent.Add(int64(len(cmds)))
	for _, cmd := range cmds {
		if args := cmd.Args(); len(args) > 1 && args[1] == asynqredis.CompleteSHA {
			f.completions.Add(1)
		}
	}
	err := next()
	if f.hits(func(f *faults) func(redis.Cmder) bool { return f.after }, cmds...) {
		if f.then != nil {
			f.then()
			return err
		}
		return broken()
	}
	return err
}

func (f *faults) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return f.run([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (f *faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return f.run(cmds, func() error { return next(ctx, cmds) })
	}
}
