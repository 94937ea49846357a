package worker_test

import (
	"crypto/sha256"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/webhooks"
	"github.com/forebay-queue/forebay/worker"
)

// sealer has keys of those names.
func sealer(t *testing.T, names ...string) *seal.Sealer {
	t.Helper()
	keys := make([]seal.Key, len(names))
	for i, name := range names {
		secret := sha256.Sum256([]byte(name))
		keys[i] = seal.Key{ID: name, Secret: secret[:]}
	}
	s, err := seal.New(keys...)
	require.NoError(t, err)
	return s
}

// sealedBy has the store, and the workers that are made from now on, seal by keys of those names.
func (b *bench) sealedBy(names ...string) *worker.Worker {
	b.t.Helper()
	var err error
	s := sealer(b.t, names...)
	b.store, err = jobstore.New(jobstore.Config{Redis: b.redis, Sealer: s})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = b.store.Close() })
	w, err := worker.New(worker.Config{Redis: b.redis, Catalog: b.catalog, Sealer: s, Dial: b.dial, Slots: 4, Log: b.log})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, w.Shutdown(b.t.Context())) })
	return w
}

// A job that its worker cannot read waits for one that can, costs nothing, and holds nobody up.
func TestAJobThatCannotBeReadGoesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var log lines
		b.log = zerolog.New(&log)
		knows := b.sealedBy("k2")
		id := b.job()
		cancelled := b.job()
		without := b.newWorker() // was started with a configuration that has no keys
		for range 8 {            // more often than a job may lose its worker
			task := b.task(id)
			err := without.ProcessTask(t.Context(), task)
			require.ErrorContains(t, err, "read job "+id+": field job: sealed under the key k2, which this process does not have")
			require.NotErrorIs(t, err, asynq.SkipRetry)
			result := b.result(id)
			assert.Equal(t, tasks.StatusQueued, result.Status)
			require.NotNil(t, result.Waiting)
			assert.Equal(t, "unreadable", result.Waiting.Reason)
			assert.Equal(t, time.Minute, result.Waiting.Until.Sub(result.Waiting.Since))
			assert.Zero(t, result.Retries)
		}
		assert.Contains(t, log.String(), "field job: sealed under the key k2, ")
		require.NoError(t, knows.ProcessTask(t.Context(), b.task(id)))
		assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status)
		assert.NotContains(t, log.String(), "Water waits")
		require.Error(t, without.ProcessTask(t.Context(), b.task(id)), "what its end sets off is told once it can be read")

		// Its user can end it in any case, also while a delivery has it.
		_, err := b.store.Start(t.Context(), cancelled, jobstore.Delivery{ID: "d1", Worker: "w1"})
		require.NoError(t, err)
		_, err = b.store.Cancel(t.Context(), cancelled, "")
		require.NoError(t, err)
		_ = without.ProcessTask(t.Context(), b.task(cancelled))
		assert.Equal(t, tasks.StatusCancelled, b.result(cancelled).Status)
	})
}

func (b *bench) task(id string) *asynq.Task {
	b.t.Helper()
	task, _, err := envelope.New(b.store.Keys(), tasks.Job{ID: id, TaskType: "summary"}, "", 1)
	require.NoError(b.t, err)
	return task
}

// Asynq goes on showing nothing of a foreign task whose job is sealed.
func TestSealedForeignTasksAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w := b.sealedBy("k1")
		require.NoError(t, w.Start(t.Context()))
		for _, payload := range []string{`{"id":"good","input":"x"}`, `{"id":"same","input":"x"}`, `{"id":"bad","inptu":"x"}`, `{"input":"x"`} {
			id := "foreign"
			if payload == `{"id":"same","input":"x"}` {
				id = "same"
			}
			b.foreign("completion:summary", payload, asynq.TaskID(id), asynq.Retention(time.Hour))
			time.Sleep(10 * time.Second)
		}
		inspector := asynq.NewInspectorFromRedisClient(b.redis)
		archived, err := inspector.ListArchivedTasks("default")
		require.NoError(t, err)
		assert.Empty(t, archived)
		completed, err := inspector.ListCompletedTasks("default")
		require.NoError(t, err)
		var shown []string
		for _, task := range completed {
			shown = append(shown, string(task.Payload))
		}
		assert.ElementsMatch(t, []string{"good", "same"}, shown, "the jobs' own tasks stay")
		for id, status := range map[string]tasks.Status{"good": tasks.StatusSucceeded, "same": tasks.StatusSucceeded, "asynq-default-foreign": tasks.StatusFailed} {
			assert.Equal(t, status, b.result(id).Status, id)
		}
	})
}

// A webhook that a worker has not the key of waits for one that has; neither is it sent nor given up.
func TestAWebhookThatCannotBeReadGoesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1) // without keys
		store, err := webhooks.New(webhooks.Config{Redis: b.redis, Sealer: sealer(t, "k1")})
		require.NoError(t, err)
		id := webhooks.ID("sealed")
		require.NoError(t, store.Create(t.Context(), webhooks.Webhook{
			ID: id, Event: tasks.EventTest, Tenant: "default", At: time.Now(), To: tasks.Webhook{URL: "http://good.example/x"},
		}))
		time.Sleep(5 * time.Minute)
		record, err := store.Get(t.Context(), id, "")
		require.NoError(t, err)
		require.Equal(t, webhooks.Pending, record.State)
		require.Equal(t, "unreadable", record.Waiting)
		require.Zero(t, record.Attempts)
		require.Empty(t, b.at("good.example"))
	})
}
