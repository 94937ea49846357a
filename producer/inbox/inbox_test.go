package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestJobsOfTheInboxAreAccepted(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		early := b.add("job", `{"task_type":"fast_summary","input":"written before anybody read"}`)
		b.start()
		own := b.add("job", `{"id":"mine","task_type":"fast_summary","input":"with an id","priority":"critical"}`)
		for i := range 600 {
			b.add("job", fmt.Sprintf(`{"id":"n-%d","task_type":"fast_summary","input":"number %d"}`, i, i))
		}
		b.drained()
		assert.Equal(t, tasks.StatusQueued, b.record("inbox-"+early).Status)
		assert.Equal(t, tasks.PriorityCritical, b.record("mine").Priority)
		assert.EqualValues(t, 602, b.queued())
		assert.Empty(t, b.rejected(), own)
	})
}

// An entry read again, after a crash behind its acceptance, is the same job.
func TestAnEntryReadAgainIsTheSameJob(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		id := b.add("job", `{"task_type":"fast_summary","input":"once"}`)
		dead, err := New(b.config())
		require.NoError(t, err)
		defer func() { _ = dead.store.Close() }()
		require.NoError(t, dead.makeGroup(t.Context()))
		entries, err := dead.readNew(t.Context(), 10, time.Second)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		done, refusals, left, err := dead.enqueue(t.Context(), entries)
		require.NoError(t, err)
		require.Equal(t, []string{id}, done)
		require.Empty(t, refusals)
		require.Zero(t, left)
		// Here it dies.
		require.EqualValues(t, 1, b.redis.XLen(t.Context(), b.keys.Inbox()).Val())

		b.start(func(c *Config) { c.ClaimAfter = 50 * time.Millisecond })
		b.drained()
		assert.EqualValues(t, 1, b.queued(), "one job, one task")
		assert.Equal(t, tasks.StatusQueued, b.record("inbox-"+id).Status)
	})
}

// What a consumer has refused when it dies is told once, wherever it dies.
func TestARefusalIsToldOnce(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		id := b.add("job", `{"id":"bad","tier":"none","input":"x"}`)
		dead, err := New(b.config())
		require.NoError(t, err)
		defer func() { _ = dead.store.Close() }()
		require.NoError(t, dead.makeGroup(t.Context()))
		entries, err := dead.readNew(t.Context(), 10, time.Second)
		require.NoError(t, err)
		_, refusals, _, err := dead.enqueue(t.Context(), entries)
		require.NoError(t, err)
		require.Len(t, refusals, 1)
		require.NoError(t, dead.record(t.Context(), &refusals[0]))
		if dead.apart {
			require.NoError(t, dead.tell(t.Context(), &refusals[0]))
		} // and here it stands still

		_, stop := b.start(func(c *Config) { c.ClaimAfter = 50 * time.Millisecond })
		b.drained()
		stop()
		require.Len(t, b.rejected(), 1)
		assert.Equal(t, "bad", b.rejected()[id]["id"])
		require.NoError(t, dead.reject(t.Context(), &refusals[0]), "it goes on")
		require.Len(t, b.rejected(), 1)
		assert.Equal(t, tasks.StatusFailed, b.record("bad").Status)
	})
}

func TestTheSenderFindsItsRefusal(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		b.start()
		_, err := b.client.Enqueue(t.Context(), tasks.Job{ID: "taken", TaskType: "fast_summary", Input: "theirs", Tenant: "acme"})
		require.NoError(t, err)
		unknown := b.add("job", `{"id":"u-1","task_type":"fast_sumery","input":"x","tenant":"acme"}`)
		nameless := b.add("job", `{"task_type":"fast_summary","inptu":"x"}`)
		taken := b.add("job", `{"id":"taken","task_type":"fast_summary","input":"mine"}`)
		b.drained()

		refusals := b.rejected()
		require.Len(t, refusals, 3)
		assert.Equal(t, map[string]any{
			"entry": unknown, "id": "u-1", "code": "invalid_job", "field": "task_type",
			"reason": `job u-1: task_type: no task type "fast_sumery", did you mean "fast_summary"?`,
			"job":    `{"id":"u-1","task_type":"fast_sumery","input":"x","tenant":"acme"}`,
		}, refusals[unknown])
		result := b.record("u-1").Result()
		assert.Equal(t, tasks.StatusFailed, result.Status)
		assert.Equal(t, "acme", result.Tenant)
		assert.Equal(t, tasks.ClassInvalid, result.Error.Class)
		assert.Contains(t, result.Error.Message, `did you mean "fast_summary"?`)

		assert.Equal(t, "inptu", refusals[nameless]["field"])
		assert.Equal(t, "29", refusals[nameless]["byte"])
		assert.Equal(t, tasks.StatusFailed, b.record("inbox-"+nameless).Status, "the sender knows the entry's id")

		assert.Equal(t, "id_conflict", refusals[taken]["code"])
		assert.NotContains(t, refusals[taken]["reason"], "theirs")
		assert.Equal(t, tasks.StatusQueued, b.record("taken").Status, "the other's job is as it was")
		assert.Equal(t, "inbox-"+taken, refusals[taken]["id"])

		b.add("job", `{"id":"u-1","task_type":"fast_summary","input":"x","tenant":"acme"}`)
		b.drained()
		assert.Equal(t, tasks.StatusQueued, b.record("u-1").Status, "corrected, it is accepted under its id")
	})
}

func TestTheInboxWaitsWhileTheQueuesAreFull(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		for i := range 40 {
			b.add("job", fmt.Sprintf(`{"id":"n-%d","task_type":"fast_summary","input":"x"}`, i))
		}
		b.start(func(c *Config) { c.MaxQueued = 10 })
		require.Eventually(t, func() bool { return b.queued() >= 10 }, 10*time.Second, time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		queued := b.queued()
		assert.LessOrEqual(t, queued, int64(10+16), "one read more at most")
		assert.Equal(t, 40-queued, b.redis.XLen(t.Context(), b.keys.Inbox()).Val(), "the stream is the backlog")
		for b.redis.XLen(t.Context(), b.keys.Inbox()).Val() > 0 {
			b.redis.Del(t.Context(), b.keys.QueuePending("default", ""))
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// awayFor is a part of Redis that cannot be reached: what goes to keys of that name fails while it is on.
type awayFor struct {
	name  string
	on    atomic.Bool
	tries atomic.Int64
}

func (a *awayFor) DialHook(next redis.DialHook) redis.DialHook { return next }

// refuses tells whether a command is for that part, and lets it fail.
func (a *awayFor) refuses(cmd redis.Cmder) bool {
	if !a.on.Load() || !strings.Contains(fmt.Sprint(cmd.Args()...), a.name) {
		return false
	}
	a.tries.Add(1)
	cmd.SetErr(errors.New("CLUSTERDOWN the hash slot is not served"))
	return true
}

func (a *awayFor) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if a.refuses(cmd) {
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

func (a *awayFor) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		served := slices.DeleteFunc(slices.Clone(cmds), a.refuses)
		if len(served) == 0 {
			return cmds[0].Err()
		}
		return next(ctx, served)
	}
}

// What cannot be accepted because a part of Redis is away stays pending and is tried again; what can be goes on.
func TestWhatIsNotAcceptedStaysPending(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	b := newBundle(t, client)
	part := &awayFor{name: "asynq:{bulk}:t:"}
	part.on.Store(true)
	client.AddHook(part)
	b.start()
	b.add("job", `{"id":"stuck","task_type":"fast_summary","input":"x","priority":"bulk"}`)
	b.add("job", `{"id":"fine","task_type":"fast_summary","input":"x"}`)
	require.Eventually(t, func() bool { return part.tries.Load() >= 3 && b.queued() == 1 }, 20*time.Second, 5*time.Millisecond)
	require.EqualValues(t, 1, b.redis.XLen(t.Context(), b.keys.Inbox()).Val(), "the one that waits is the only one left")
	part.on.Store(false)
	b.drained()
	assert.Equal(t, tasks.StatusQueued, b.record("stuck").Status)
	assert.EqualValues(t, 2, b.queued())
}

func TestTheInboxOutlivesRedis(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t, "--appendonly", "yes", "--appendfsync", "always")
	b := newBundle(t, client)
	b.start()
	b.add("job", `{"id":"before","task_type":"fast_summary","input":"x"}`)
	b.drained()
	server.Kill()
	time.Sleep(300 * time.Millisecond)
	server.Start()
	b.add("job", `{"id":"after","task_type":"fast_summary","input":"x"}`)
	b.drained()
	require.NoError(t, client.FlushAll(t.Context()).Err()) // the group is gone with it
	require.Eventually(t, func() bool {
		return client.XInfoGroups(context.Background(), b.keys.Inbox()).Err() == nil
	}, 10*time.Second, 10*time.Millisecond)
	b.add("job", `{"id":"anew","task_type":"fast_summary","input":"x"}`)
	b.drained()
	assert.Equal(t, tasks.StatusQueued, b.record("anew").Status)
}

func TestManyConsumersShareTheInbox(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		var stops []func()
		for range 4 {
			_, stop := b.start()
			stops = append(stops, stop)
		}
		var senders sync.WaitGroup
		for s := range 4 {
			senders.Go(func() {
				for i := range 100 {
					b.add("job", fmt.Sprintf(`{"id":"s%d-%d","task_type":"fast_summary","input":"x"}`, s, i))
				}
			})
		}
		senders.Wait()
		b.drained()
		for _, stop := range stops {
			stop()
		}
		assert.EqualValues(t, 400, b.queued())
		consumers, err := b.redis.XInfoConsumers(t.Context(), b.keys.Inbox(), Group).Result()
		require.NoError(t, err)
		assert.Empty(t, consumers, "who leaves with nothing pending is forgotten")
	})
}

// A consumer that leaves with entries pending keeps them for another one.
func TestLeavingLosesNothing(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		b.add("job", `{"id":"a","task_type":"fast_summary","input":"x"}`)
		n, err := New(b.config())
		require.NoError(t, err)
		defer func() { _ = n.store.Close() }()
		require.NoError(t, n.makeGroup(t.Context()))
		entries, err := n.readNew(t.Context(), 10, time.Second)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.NoError(t, n.leave(t.Context(), n.consumer))
		pending, err := n.readPending(t.Context(), firstEntry, 10)
		require.NoError(t, err)
		assert.Equal(t, entries, pending)
	})
}

// Entries that were deleted while somebody had them are nobody's any more.
func TestDeletedEntries(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	b := newBundle(t, client)
	id := b.add("job", `{"id":"a","task_type":"fast_summary","input":"x"}`)
	n, err := New(b.config())
	require.NoError(t, err)
	defer func() { _ = n.store.Close() }()
	require.NoError(t, n.makeGroup(t.Context()))
	_, err = n.readNew(t.Context(), 10, time.Second)
	require.NoError(t, err)
	require.NoError(t, client.XDel(t.Context(), b.keys.Inbox(), id).Err())
	pending, err := n.readPending(t.Context(), firstEntry, 10)
	require.NoError(t, err)
	require.Len(t, pending, 1)
	require.True(t, pending[0].gone)
	require.Zero(t, n.handle(t.Context(), pending))
	b.drained()
	assert.Empty(t, b.rejected())
}

func TestLogsHoldNothingOfAJob(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	b := newBundle(t, client)
	var written syncBuffer
	log := zerolog.New(&written)
	_, stop := b.start(logTo(&log))
	b.add("job", `{"id":"a","task_type":"fast_summary","input":"secret"}`)
	b.add("job", `{"id":"b","task_type":"secret","input":"secret"}`)
	b.add("job", `{"secret":"secret"}`)
	b.add("job", `{"id":"c","secret`)
	b.add("secret", `secret`)
	b.drained()
	stop()
	assert.Contains(t, written.String(), "invalid_job")
	assert.NotContains(t, written.String(), "secret")
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := New(Config{MaxQueued: -1, MaxRejected: -1, ClaimAfter: -1})
	for _, part := range []string{"Config.Redis", "Config.Client", "max_queued", "max_rejected", "ClaimAfter"} {
		require.ErrorContains(t, err, part)
	}
	client, _ := redistest.Embedded(t)
	b := newBundle(t, client)
	n, err := New(b.config())
	require.NoError(t, err)
	require.NoError(t, n.Shutdown(t.Context()), "one that never started")
	ctx, cancel := context.WithCancel(t.Context())
	n, err = New(b.config())
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	require.Eventually(t, n.started.Load, 5*time.Second, time.Millisecond)
	require.ErrorContains(t, n.Start(t.Context()), "started twice")
	cancel()
	require.NoError(t, <-ran)
}

// The header of every script is its contract, and the body keeps to it.
func TestScriptsKeepTheirForm(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.lua")
	require.NoError(t, err)
	require.Len(t, files, 4)
	numbered := regexp.MustCompile(`(?:KEYS|ARGV)\[\d+\]`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		header, body, found := strings.Cut(string(text), "\n\n")
		require.True(t, found, file)
		assert.True(t, strings.HasPrefix(header, "-- "+strings.TrimSuffix(file, ".lua")+": "), file)
		for _, part := range []string{"KEYS[1]", "ARGV[1]", "RETURNS", "CLOCK", "WRITES"} {
			assert.Contains(t, header, "-- "+part, file)
		}
		for line := range strings.SplitSeq(body, "\n") {
			for _, name := range numbered.FindAllString(line, -1) {
				assert.True(t, strings.HasPrefix(line, "local "), "%s: %s stands bare in %q", file, name, line)
				assert.Contains(t, header, name, file)
			}
		}
	}
}

func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	var s sizes
	assert.Equal(t, 16, s.count(), "before anything is known")
	s.see([]entry{{job: strings.Repeat("x", 100)}})
	assert.Equal(t, 2, s.count())
	for range 300 {
		s.see([]entry{{job: "x"}})
	}
	assert.Equal(t, maxCount, s.count())
	s.see([]entry{{job: strings.Repeat("x", 8<<20)}})
	assert.Equal(t, 1, s.count(), "after the largest of jobs")
}

// syncBuffer is a buffer that several goroutines write to.
type syncBuffer struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.String()
}
