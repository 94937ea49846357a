package producer_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestEnqueue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		receipt, err := b.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		require.Equal(t, producer.Receipt{ID: "a", Created: true, Status: tasks.StatusQueued}, receipt)
		require.Equal(t, []string{"a"}, b.taskIDs(t, "default"))

		urgent := summary("a")
		urgent.Priority = tasks.PriorityCritical
		receipt, err = b.Enqueue(t.Context(), urgent)
		require.NoError(t, err)
		require.False(t, receipt.Created)
		require.Equal(t, []string{"a"}, b.taskIDs(t, "default"))
		queues, err := b.inspector.Queues()
		require.NoError(t, err)
		require.Equal(t, []string{"default"}, queues, "the record decides where the task is")

		other := summary("a")
		other.Input = "another text"
		_, err = b.Enqueue(t.Context(), other)
		require.ErrorIs(t, err, producer.ErrIDConflict)
		require.NotContains(t, err.Error(), "long text")

		anonymous := summary("")
		receipt, err = b.Enqueue(t.Context(), anonymous)
		require.NoError(t, err)
		require.Len(t, receipt.ID, 36)

		b.work(t, "a", tasks.StatusSucceeded)
		require.NoError(t, b.inspector.DeleteTask("default", "a"))
		receipt, err = b.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		require.Equal(t, producer.Receipt{ID: "a", Status: tasks.StatusSucceeded}, receipt)
		require.NotContains(t, b.taskIDs(t, "default"), "a", "what is done is not queued again")
	})
}

// An id whose record has expired is free, also while asynq still shows the task of the job that had it.
func TestEnqueueUnderTheIDOfATaskThatAsynqStillShows(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		_, err := b.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		require.NoError(t, b.inspector.ArchiveTask("default", "a"))
		require.NoError(t, b.client.Del(t.Context(), "forebay:{job:a}").Err())

		receipt, err := b.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		require.True(t, receipt.Created)
		require.Equal(t, []string{"a"}, b.taskIDs(t, "default"))
	})
}

// Deployments that share a Redis under different prefixes have queues of their own: neither takes the other's tasks.
func TestPrefixesKeepDeploymentsApart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		other, err := producer.New(producer.Config{Redis: b.client, Catalog: newCatalog(t), Prefix: "other:"})
		require.NoError(t, err)
		t.Cleanup(func() { _ = other.Close() })
		_, err = other.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		queues, err := b.inspector.Queues()
		require.NoError(t, err)
		require.Equal(t, []string{"other:default"}, queues)
	})
}

// Whatever a crash leaves between record, index and task is mended by enqueueing again.
func TestEnqueueMendsWhatACrashHasLeft(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		for crash, undo := range map[string]func(){
			"before the task": func() { require.NoError(t, b.inspector.DeleteTask("default", "a")) },
			"before the index": func() {
				require.NoError(t, b.inspector.DeleteTask("default", "a"))
				keys := b.client.Keys(t.Context(), "forebay:{idx:*").Val()
				require.NoError(t, b.client.Del(t.Context(), keys...).Err())
			},
			"nowhere": func() {},
		} {
			_, err := b.Enqueue(t.Context(), summary("a"))
			require.NoError(t, err, crash)
			undo()
			_, err = b.Enqueue(t.Context(), summary("a"))
			require.NoError(t, err, crash)
			require.Equal(t, []string{"a"}, b.taskIDs(t, "default"), crash)
			require.Len(t, b.client.Keys(t.Context(), "forebay:{idx:*").Val(), 1, crash)
		}
	})
}

func TestScheduledJobs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		job := summary("later")
		runAt := time.Now().Add(time.Hour)
		job.RunAt = &runAt
		for range 2 {
			_, err := b.Enqueue(t.Context(), job)
			require.NoError(t, err)
			info, err := b.inspector.GetTaskInfo("default", "later")
			require.NoError(t, err)
			require.False(t, info.NextProcessAt.Before(runAt.Truncate(time.Second)))
		}
		result, err := b.Get(t.Context(), "later")
		require.NoError(t, err)
		require.Equal(t, "scheduled", result.Waiting.Reason)
	})
}

func TestEnqueueManyRefusesTheBadAndLosesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		const count = 600
		jobs := make([]tasks.Job, count)
		for i := range jobs {
			jobs[i] = summary(fmt.Sprintf("doc-%d", i))
		}
		jobs[3].TaskType = "unknown_type"
		jobs[300].ID = "bad id"
		jobs[301].Input = ""
		jobs[599] = jobs[598]
		jobs[4].ID = "doc-5" // another input under the id of the next

		next, accepted := 0, 0
		for receipt, err := range b.EnqueueMany(t.Context(), slices.Values(jobs)) {
			require.Equal(t, next, receipt.Index)
			switch next {
			case 3, 300, 301:
				require.ErrorIs(t, err, tasks.ErrInvalidJob)
			case 5:
				require.ErrorIs(t, err, producer.ErrIDConflict)
			default:
				require.NoError(t, err)
				require.Equal(t, next != 599, receipt.Created)
				accepted++
			}
			next++
		}
		require.Equal(t, count, next)
		require.Equal(t, count-4, accepted)
		require.Len(t, b.taskIDs(t, "default"), count-5)

		for range b.EnqueueMany(t.Context(), slices.Values(jobs)) {
			break // and nothing hangs or panics
		}
	})
}

func TestEnqueueManyStopsWithItsContext(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	b := newBundle(t, client)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	taken, answered := 0, 0
	endless := func(yield func(tasks.Job) bool) {
		for yield(summary(fmt.Sprintf("doc-%d", taken))) {
			taken++
		}
	}
	for range b.EnqueueMany(ctx, endless) {
		answered++
		if answered == 300 {
			cancel()
		}
	}
	require.LessOrEqual(t, answered, 4*256, "a few hundred are taken ahead")
	require.Zero(t, answered%256)
	require.Equal(t, taken, answered-1, "every job that was taken has an answer")
}

func TestWait(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		_, err := b.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		results := make(chan tasks.Result, 1)
		go func() {
			result, err := b.Wait(t.Context(), "a")
			assert.NoError(t, err)
			results <- result
		}()
		b.work(t, "a", tasks.StatusSucceeded)
		result := <-results
		require.Equal(t, tasks.StatusSucceeded, result.Status)
		require.Equal(t, "short", result.Text)
		require.JSONEq(t, `{"choices":[]}`, string(result.Response))
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		_, err := b.Enqueue(t.Context(), summary("waits"))
		require.NoError(t, err)
		for range 2 {
			result, err := b.Cancel(t.Context(), "waits")
			require.NoError(t, err)
			require.Equal(t, tasks.StatusCancelled, result.Status)
			require.Empty(t, b.taskIDs(t, "default"))
		}

		_, err = b.Enqueue(t.Context(), summary("runs"))
		require.NoError(t, err)
		workers := b.client.Subscribe(t.Context(), b.store.Keys().Cancel())
		defer func() { _ = workers.Close() }()
		_, err = workers.Receive(t.Context())
		require.NoError(t, err)
		b.start(t, "runs")
		result, err := b.Cancel(t.Context(), "runs")
		require.NoError(t, err)
		require.Equal(t, tasks.StatusRunning, result.Status)
		message, err := workers.ReceiveMessage(t.Context())
		require.NoError(t, err)
		require.Equal(t, "runs", message.Payload)
	})
}

func TestReopen(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		_, err := b.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		_, err = b.Reopen(t.Context(), "a")
		require.ErrorIs(t, err, producer.ErrNotEnded)
		b.work(t, "a", tasks.StatusFailed)

		result, err := b.Reopen(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, 2, result.Run)
		require.Equal(t, tasks.StatusQueued, result.Status)
		require.ElementsMatch(t, []string{"a", "a.2"}, b.taskIDs(t, "default"))

		require.NoError(t, b.inspector.DeleteTask("default", "a.2"))
		_, err = b.Enqueue(t.Context(), summary("a"))
		require.NoError(t, err)
		require.Contains(t, b.taskIDs(t, "default"), envelope.TaskID("a", 2), "enqueueing mends a lost task of any run")

		b.work(t, "a", tasks.StatusSucceeded)
		_, err = b.Reopen(t.Context(), "a")
		require.ErrorIs(t, err, producer.ErrSucceeded)
	})
}

func TestErrorsNameTheJobAndTheRemedy(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	b := newBundle(t, client)
	for _, act := range []func(id string) error{
		func(id string) error { _, err := b.Get(t.Context(), id); return err },
		func(id string) error { _, err := b.Wait(t.Context(), id); return err },
		func(id string) error { _, err := b.Cancel(t.Context(), id); return err },
		func(id string) error { _, err := b.Reopen(t.Context(), id); return err },
	} {
		err := act("absent")
		require.ErrorIs(t, err, producer.ErrNotFound)
		require.ErrorContains(t, err, "job absent")
		err = act("no/id")
		require.ErrorIs(t, err, tasks.ErrInvalidJob)
		require.ErrorContains(t, err, "no/id")
	}
	job := summary("a")
	job.TaskType = "unknown_type"
	_, err := b.Enqueue(t.Context(), job)
	require.ErrorContains(t, err, "job a: ")
	require.ErrorContains(t, err, "unknown_type")

	reader, err := producer.New(producer.Config{Redis: client})
	require.NoError(t, err)
	_, err = reader.Enqueue(t.Context(), summary("a"))
	require.ErrorContains(t, err, "Config.Catalog")
	_, err = producer.New(producer.Config{Concurrency: -1})
	require.ErrorContains(t, err, "Config.Redis")
	require.ErrorContains(t, err, "Config.Concurrency")
}

func TestUnreachableRedis(t *testing.T) {
	t.Parallel()
	_, server := redistest.Embedded(t)
	options := redistest.Options(server.Addr())
	options.DialerRetries, options.MaxRetries = 1, -1 // how quickly it gives up is the client's to say
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	server.Close()
	b := newBundle(t, client)
	require.ErrorContains(t, b.Ready(t.Context()), "reach Redis")
	receipt, err := b.Enqueue(t.Context(), summary("a"))
	require.ErrorIs(t, err, producer.ErrUnaccepted)
	require.ErrorContains(t, err, "enqueue job a again")
	require.Equal(t, "a", receipt.ID)
	_, err = b.Get(t.Context(), "a")
	require.ErrorContains(t, err, "job a")
	_, err = b.Wait(t.Context(), "a")
	require.ErrorContains(t, err, "job a")
}

// A frozen server answers nobody: go-redis would wait for many seconds, whatever the context says.
func TestAFrozenRedisDoesNotHoldAnybodyUp(t *testing.T) {
	t.Parallel()
	_, server := redistest.Real(t)
	options := redistest.Options(server.Addr)
	options.ReadTimeout, options.MaxRetries = 2*time.Second, -1
	client := redis.NewClient(options)
	b := newBundle(t, client)
	t.Cleanup(func() { _ = client.Close() })
	_, err := b.Enqueue(t.Context(), summary("a"))
	require.NoError(t, err)
	server.Pause()
	defer server.Resume()
	for name, act := range map[string]func(context.Context) error{
		"ready":   b.Ready,
		"get":     func(ctx context.Context) error { _, err := b.Get(ctx, "a"); return err },
		"enqueue": func(ctx context.Context) error { _, err := b.Enqueue(ctx, summary("b")); return err },
		"cancel":  func(ctx context.Context) error { _, err := b.Cancel(ctx, "a"); return err },
	} {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := act(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.Less(t, time.Since(begun), time.Second, name)
		require.NotContains(t, err.Error(), "long text", name)
	}
}
