package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/scheduler"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is what a process has of its own: a connection to Redis, which its death cuts.
type process struct {
	*redis.Client
	dead atomic.Bool
}

var errDead = errors.New("the process is dead")

func newProcess(t *testing.T, like *redis.Client) *process {
	t.Helper()
	options := *like.Options()
	p := &process{Client: redis.NewClient(&options)}
	p.AddHook(p)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func (p *process) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if p.dead.Load() {
			return nil, errDead
		}
		return next(ctx, network, addr)
	}
}

func (p *process) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if p.dead.Load() {
			time.Sleep(100 * time.Millisecond) // asynq asks again at once
			cmd.SetErr(errDead)
			return errDead
		}
		return next(ctx, cmd)
	}
}

func (p *process) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if p.dead.Load() {
			for _, cmd := range cmds {
				cmd.SetErr(errDead)
			}
			return errDead
		}
		return next(ctx, cmds)
	}
}

// fleet is a deployment in fake time, with asynq's own servers for workers.
type fleet struct {
	t     *testing.T
	redis *redis.Client
	store *jobstore.Store
	// call is how long a delivery takes.
	call time.Duration

	mutex  sync.Mutex
	begun  map[string][]time.Time // deliveries by job
	ended  map[string]int
	killed map[string]bool // workers
}

func newFleet(t *testing.T, call time.Duration) *fleet {
	t.Helper()
	client, _ := redistest.InBubble(t)
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return &fleet{
		t: t, redis: client, store: store, call: call, begun: map[string][]time.Time{}, ended: map[string]int{},
		killed: map[string]bool{},
	}
}

// scheduler starts one in a process of its own.
func (f *fleet) scheduler() (*scheduler.Scheduler, *process) {
	f.t.Helper()
	p := newProcess(f.t, f.redis)
	s, err := scheduler.New(scheduler.Config{Redis: p})
	require.NoError(f.t, err)
	require.NoError(f.t, s.Start(f.t.Context()))
	f.t.Cleanup(func() { require.NoError(f.t, s.Shutdown(context.Background())) })
	return s, p
}

// worker starts asynq's server for the bulk queue in a process of its own, with a liveness key as workers have one.
func (f *fleet) worker(name string) *process {
	f.t.Helper()
	p := newProcess(f.t, f.redis)
	store, err := jobstore.New(jobstore.Config{Redis: p})
	require.NoError(f.t, err)
	server := asynq.NewServerFromRedisClient(p, asynq.Config{
		Queues: map[string]int{"bulk": 1}, Concurrency: 100, LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Second,
	})
	require.NoError(f.t, server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		return f.deliver(ctx, p, store, name, string(task.Payload()))
	})))
	stop := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() {
		for {
			_ = p.Set(context.Background(), store.Keys().Worker(name), "", 15*time.Second).Err()
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Second):
			}
		}
	})
	f.t.Cleanup(func() {
		close(stop)
		beats.Wait()
		server.Shutdown()
		_ = store.Close()
	})
	return p
}

func (f *fleet) deliver(ctx context.Context, p *process, store *jobstore.Store, worker, id string) error {
	f.mutex.Lock()
	f.begun[id] = append(f.begun[id], time.Now())
	delivery := fmt.Sprintf("%s-%d", worker, len(f.begun[id]))
	f.mutex.Unlock()
	record, err := store.Start(ctx, id, jobstore.Delivery{ID: delivery, Worker: worker})
	if err != nil || record.Status.Ended() {
		return err
	}
	select {
	case <-time.After(f.call):
	case <-ctx.Done():
	}
	if p.dead.Load() {
		return errDead
	}
	_, err = store.Commit(context.Background(), jobstore.Commit{ID: id, Run: 1, Delivery: delivery, Status: tasks.StatusSucceeded})
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.ended[id]++
	return err
}

// enqueue enqueues jobs job-0, job-1, ...
func (f *fleet) enqueue(count int) {
	f.t.Helper()
	client := asynq.NewClientFromRedisClient(f.redis)
	for i := range count {
		now, deadline := time.Now(), time.Now().Add(24*time.Hour)
		job := tasks.Job{
			V: 1, ID: fmt.Sprintf("job-%d", i), Tenant: "default", Request: []byte(`{}`), Kind: tasks.KindChat,
			Priority: tasks.PriorityBulk, CreatedAt: &now, Deadline: &deadline,
		}
		_, err := f.store.Create(f.t.Context(), jobstore.NewJob{Job: job, Fingerprint: "f"})
		require.NoError(f.t, err)
		task, options, err := envelope.New(keyspace.New(""), job, "", 1)
		require.NoError(f.t, err)
		_, err = client.Enqueue(task, options...)
		require.NoError(f.t, err)
	}
}

// running counts the jobs that were begun so often.
func (f *fleet) running(times int) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	count := 0
	for _, begun := range f.begun {
		if len(begun) == times {
			count++
		}
	}
	return count
}

// done counts the jobs that have ended.
func (f *fleet) done() int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return len(f.ended)
}

// until waits for something to be true and returns how long that took.
func (f *fleet) until(limit time.Duration, what func() bool) time.Duration {
	f.t.Helper()
	begun := time.Now()
	for !what() {
		if time.Since(begun) > limit {
			f.t.Fatalf("still not so after %s", limit)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(begun)
}

const orphans = 20

func TestAWorkersDeathIsMendedWithin20s(t *testing.T) {
	t.Parallel()
	for phase := range 5 { // at different moments between two heartbeats and two looks
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, time.Minute)
			f.scheduler()
			victim := f.worker("victim")
			f.enqueue(orphans)
			f.until(time.Minute, func() bool { return f.running(1) == orphans })
			time.Sleep(7*time.Second + time.Duration(phase)*1100*time.Millisecond)
			victim.dead.Store(true)
			f.worker("heir")
			took := f.until(20*time.Second, func() bool { return f.running(2) == orphans })
			t.Logf("all %d deliveries repeated %s after the death", orphans, took)
			f.until(2*time.Minute, func() bool { return f.done() == orphans })
			f.once()
		})
	}
}

// once checks that every job was delivered and ended exactly once by a living worker.
func (f *fleet) once() {
	f.t.Helper()
	for id, times := range f.ended {
		require.Equal(f.t, 1, times, id)
		require.LessOrEqual(f.t, len(f.begun[id]), 2, id)
		record, err := f.store.Get(f.t.Context(), id)
		require.NoError(f.t, err)
		require.Equal(f.t, tasks.StatusSucceeded, record.Status)
		require.LessOrEqual(f.t, record.Deaths, 1)
	}
}

func TestWorkerAndLeaderDieTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Minute)
		first, leading := f.scheduler()
		f.until(time.Second, first.Leading)
		second, _ := f.scheduler()
		victim := f.worker("victim")
		f.enqueue(orphans)
		f.until(time.Minute, func() bool { return f.running(1) == orphans })
		time.Sleep(11 * time.Second)
		victim.dead.Store(true)
		leading.dead.Store(true)
		f.worker("heir")
		require.Less(t, f.until(10*time.Second, second.Leading), 7*time.Second)
		require.False(t, first.Leading())
		f.until(28*time.Second, func() bool { return f.running(2) == orphans }) // 35 s in all
	})
}

func TestLongCallsAreNeverTakenForDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2*time.Minute)
		f.scheduler()
		f.worker("one")
		f.worker("two")
		f.enqueue(orphans)
		f.until(3*time.Minute, func() bool { return f.done() == orphans })
		require.Equal(t, orphans, f.running(1), "each was delivered once")
		f.once()
	})
}

func TestALeaderThatLeavesIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Minute)
		first, _ := f.scheduler()
		f.until(time.Second, first.Leading)
		second, _ := f.scheduler()
		time.Sleep(time.Minute)
		require.True(t, first.Leading())
		require.False(t, second.Leading())
		require.NoError(t, first.Shutdown(t.Context()))
		require.False(t, first.Leading())
		require.Less(t, f.until(time.Second, second.Leading), 200*time.Millisecond)
	})
}

func TestRunLeavesAtTheEnd(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	s, err := scheduler.New(scheduler.Config{Redis: client, Prefix: "other:"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	require.Eventually(t, s.Leading, 5*time.Second, 5*time.Millisecond)
	require.ErrorContains(t, s.Start(ctx), "started twice")
	cancel()
	require.NoError(t, <-done)
	fields, err := client.HGetAll(t.Context(), "other:leader").Result()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"term": "1"}, fields, "only the term stays")
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	_, err := scheduler.New(scheduler.Config{})
	require.ErrorContains(t, err, "Redis is missing")

	client, server := redistest.Embedded(t)
	server.SetTime(time.Now().Add(time.Minute))
	s, err := scheduler.New(scheduler.Config{Redis: client})
	require.NoError(t, err)
	require.ErrorContains(t, s.Start(t.Context()), "set it by NTP")
	require.NoError(t, s.Shutdown(t.Context()))

	client, _ = redistest.Embedded(t)
	require.NoError(t, client.Close())
	s, err = scheduler.New(scheduler.Config{Redis: client})
	require.NoError(t, err)
	require.ErrorContains(t, s.Start(t.Context()), "reach Redis")
	require.NoError(t, s.Shutdown(t.Context()))
}
