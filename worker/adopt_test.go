package worker_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// foreign enqueues a task as a program does that knows asynq only.
func (b *bench) foreign(taskType, payload string, options ...asynq.Option) string {
	b.t.Helper()
	info, err := asynq.NewClientFromRedisClient(b.redis).EnqueueContext(b.t.Context(), asynq.NewTask(taskType, []byte(payload)), options...)
	require.NoError(b.t, err)
	return info.ID
}

func TestForeignTasksAreAdopted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.worker.Start(t.Context()))
		typed := b.foreign("completion:summary", `{"input":"`+document+`"}`, asynq.Queue("critical"), asynq.MaxRetry(0))
		adhoc := b.foreign("completion:adhoc", ` {"model":"small","input":"x","priority":"bulk"}`, asynq.MaxRetry(0))
		b.foreign("completion:summary", `{"id":"named","input":"x"}`, asynq.MaxRetry(0))
		b.foreign("completion:adhoc", `{"id":"same","task_type":"summary","input":"x"}`, asynq.TaskID("same"), asynq.MaxRetry(0))
		b.foreign("completion:summary", `{"id":"kept","input":"x"}`, asynq.TaskID("kept"), asynq.Retention(time.Hour))
		b.foreign("completion:summary", `{"id":"later","input":"x","run_at":"`+time.Now().Add(time.Minute).Format(time.RFC3339)+`"}`)
		time.Sleep(30 * time.Second)
		for _, id := range []string{"asynq-critical-" + typed, "asynq-default-" + adhoc, "named", "same", "kept"} {
			result := b.result(id)
			assert.Equal(t, tasks.StatusSucceeded, result.Status, id)
			assert.Len(t, result.Attempts, 1, "%s is done once", id)
		}
		record, err := b.store.Get(t.Context(), "asynq-critical-"+typed)
		require.NoError(t, err)
		assert.Equal(t, tasks.PriorityCritical, record.Priority, "the queue says it where the job does not")
		assert.Equal(t, "summary", record.TaskType)
		assert.Equal(t, tasks.StatusQueued, b.result("later").Status)
		time.Sleep(time.Minute)
		assert.Equal(t, tasks.StatusSucceeded, b.result("later").Status)
	})
}

// A second delivery of a foreign task is the same job.
func TestAForeignTaskIsAdoptedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		payload := `{"id":"once","input":"x"}`
		for range 3 { // its acknowledgement is lost, twice
			require.NoError(t, b.worker.ProcessTask(t.Context(), asynq.NewTask("completion:summary", []byte(payload))))
		}
		inspector := asynq.NewInspectorFromRedisClient(b.redis)
		pending, err := inspector.ListPendingTasks("default")
		require.NoError(t, err)
		require.Len(t, pending, 1)
		assert.Equal(t, "once", pending[0].ID)
		assert.Equal(t, "once", string(pending[0].Payload))
	})
}

func TestAForeignTaskThatIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var log lines
		b.log = zerolog.New(&log)
		w := b.newWorker()
		taken := b.job(func(j *tasks.Job) { j.Tenant = "acme" })
		require.NoError(t, w.Start(t.Context()))
		for i, test := range []struct{ taskType, payload, id, code, reason string }{
			{"completion:summary", `{"input":"secret"`, "", "invalid_job", "not JSON: it ends at byte 17, in the middle"},
			{"completion:summary", "\ufeff" + `{"input":"secret"}`, "", "invalid_job", "byte order mark"},
			{"completion:summary", `[{"input":"secret"}]`, "", "invalid_job", "must be a JSON object, not an array"},
			{"completion:summary", "", "", "invalid_job", "is empty"},
			{"completion:summary", `{"id":"bad","inptu":"secret"}`, "", "invalid_job", "inptu: unknown field"},
			{"completion:nothing", `{"id":"b-2","input":"secret"}`, "b-2", "invalid_job", `no task type "nothing"`},
			{"completion:summary", `{"id":"b-3","task_type":"adhoc","input":"secret"}`, "b-3", "invalid_job", "and the task's type says"},
			{"completion:summary", `{"id":"` + taken + `","input":"secret"}`, "", "id_conflict", "the id is taken"},
		} {
			task := b.foreign(test.taskType, test.payload, asynq.MaxRetry(3))
			time.Sleep(5 * time.Second)
			if test.id == "" {
				test.id = "asynq-default-" + task
			}
			result := b.result(test.id)
			assert.Equal(t, tasks.StatusFailed, result.Status, i)
			assert.Equal(t, test.code, result.Error.Code, i)
			assert.Contains(t, result.Error.Message, test.reason, i)
			info, err := asynq.NewInspectorFromRedisClient(b.redis).GetTaskInfo("default", task)
			require.NoError(t, err)
			assert.Equal(t, asynq.TaskStateArchived, info.State, i)
			assert.Contains(t, info.LastErr, test.reason, i)
		}
		assert.Equal(t, tasks.StatusQueued, b.result(taken).Status, "the other's job is as it was")
		b.foreign("mail:send", `{"to":"secret"}`)
		time.Sleep(5 * time.Second)
		assert.Contains(t, log.String(), "none of Forebay's")
		assert.NotContains(t, log.String(), "secret", "payloads are in no log")
	})
}
