package envelope_test

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func prepared() tasks.Job {
	return tasks.Job{
		ID: "doc-7", TaskType: "fast_summary", Priority: tasks.PriorityBulk, Retention: tasks.Duration(24 * time.Hour),
		Input: "not for the queue",
	}
}

// What is queued today is read by the builds of tomorrow: the task changes only on purpose.
func TestTaskGolden(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	queue := asynq.NewClientFromRedisClient(client)
	var golden strings.Builder
	for run := 1; run <= 2; run++ {
		task, options, err := envelope.New(keyspace.New(""), prepared(), "", run)
		require.NoError(t, err)
		info, err := queue.Enqueue(task, options...)
		require.NoError(t, err)
		message, err := client.HGet(t.Context(), "asynq:{bulk}:t:"+info.ID, "msg").Bytes()
		require.NoError(t, err)
		fmt.Fprintf(&golden, "run %d\nid: %s\ntype: %s\nqueue: %s\npayload: %s\nmax_retry: %d\ntimeout: %s\nretention: %s\nmessage: %s\n\n",
			run, info.ID, info.Type, info.Queue, info.Payload, info.MaxRetry, info.Timeout, info.Retention, hex.EncodeToString(message))
		_, err = queue.Enqueue(task, options...)
		require.ErrorIs(t, err, asynq.ErrTaskIDConflict)
	}
	const path = "testdata/task.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(golden.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), golden.String(), "run `go test ./tasks/envelope -update` if the change is meant")
}

func TestScheduledTasksAreNeverEarly(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	job := prepared()
	runAt := time.Date(2100, 1, 1, 0, 0, 0, 1e6, time.UTC)
	job.RunAt = &runAt
	task, options, err := envelope.New(keyspace.New(""), job, "", 1)
	require.NoError(t, err)
	_, err = asynq.NewClientFromRedisClient(client).Enqueue(task, options...)
	require.NoError(t, err)
	score, err := client.ZScore(t.Context(), "asynq:{bulk}:scheduled", "doc-7").Result()
	require.NoError(t, err)
	require.InDelta(t, float64(runAt.Unix()+1), score, 0)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		job       tasks.Job
		kind      string
		queue     string
		retention time.Duration
	}{
		{tasks.Job{ID: "a"}, "completion:adhoc", "default", time.Hour},
		{tasks.Job{ID: "a", TaskType: "x.y", Priority: tasks.PriorityCritical, Retention: tasks.Duration(time.Minute)}, "completion:x.y", "critical", time.Minute},
	} {
		task, options, err := envelope.New(keyspace.New(""), row.job, "", 1)
		require.NoError(t, err)
		assert.Equal(t, row.kind, task.Type())
		for _, option := range options {
			switch option.Type() { //nolint:exhaustive // the others stand in the golden file
			case asynq.QueueOpt:
				assert.Equal(t, row.queue, option.Value())
			case asynq.RetentionOpt:
				assert.Equal(t, row.retention, option.Value())
			}
		}
	}
}

func TestNothingOddGetsIn(t *testing.T) {
	t.Parallel()
	for _, job := range []tasks.Job{{}, {ID: "a b"}, {ID: "a\xff"}, {ID: "a", TaskType: "x\xff"}, {ID: "a", TaskType: "x y"}} {
		_, _, err := envelope.New(keyspace.New(""), job, "", 1)
		require.ErrorContains(t, err, "prepare the job")
	}
	_, _, err := envelope.New(keyspace.New(""), tasks.Job{ID: "a"}, "", 0)
	require.Error(t, err)
}

func TestDecodeRefusesForeignTasks(t *testing.T) {
	t.Parallel()
	for _, task := range []*asynq.Task{
		asynq.NewTask("email:send", []byte("doc-7")),
		asynq.NewTask("completion:adhoc", []byte(`{"task_type":"fast_summary","input":"secret text"}`)),
		asynq.NewTask("completion:adhoc", []byte("\xff\xfe")),
		asynq.NewTask("completion:adhoc", nil),
		asynq.NewTask("odd\xff"+strings.Repeat("x", 1000), nil),
	} {
		_, _, err := envelope.Decode(task)
		require.ErrorIs(t, err, envelope.ErrForeign)
		require.NotContains(t, err.Error(), "secret text")
		require.Equal(t, strings.ToValidUTF8(err.Error(), ""), err.Error(), "asynq would stumble over it")
		require.Less(t, len(err.Error()), 300)
	}
}

// A worker is told the run that its task was made for.
func TestDecodeOnTheWorkersSide(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	queue := asynq.NewClientFromRedisClient(client)
	for run := 1; run <= 2; run++ {
		task, options, err := envelope.New(keyspace.New(""), prepared(), "", run)
		require.NoError(t, err)
		_, err = queue.Enqueue(task, options...)
		require.NoError(t, err)
	}
	for _, foreign := range []string{"doc-7.0", "doc-7.1", "doc-7.02", "other"} {
		_, err := queue.Enqueue(asynq.NewTask("completion:adhoc", []byte("doc-7")), asynq.TaskID(foreign), asynq.Queue("bulk"))
		require.NoError(t, err)
	}
	runs := make(chan string, 6)
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Queues: map[string]int{"bulk": 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
	})
	require.NoError(t, server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		id, run, err := envelope.Decode(task)
		runs <- fmt.Sprint(task.ResultWriter().TaskID(), " ", id, " ", run, " ", err)
		return nil
	})))
	t.Cleanup(server.Shutdown)
	var got []string
	for range cap(runs) {
		got = append(got, <-runs)
	}
	require.ElementsMatch(t, []string{
		"doc-7 doc-7 1 <nil>", "doc-7.2 doc-7 2 <nil>", "doc-7.0 doc-7 0 <nil>", "doc-7.1 doc-7 0 <nil>",
		"doc-7.02 doc-7 0 <nil>", "other doc-7 0 <nil>",
	}, got)
}
