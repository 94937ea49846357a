package command

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

func TestBatchThings(t *testing.T) {
	t.Parallel()
	run, client := onRedisWithClient(t)
	require.Contains(t, run("", "batch", "list").stderr, "no such batches")
	store, err := batches.New(batches.Config{Redis: client})
	require.NoError(t, err)
	id := batches.NewID()
	_, err = store.Create(t.Context(), batches.Batch{ID: id, Tenant: "default", Name: "night.jsonl", Kind: batches.KindRun, Deadline: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.NoError(t, store.Begin(t.Context(), id, 3))
	file, err := config.Load(simulatedFile(t))
	require.NoError(t, err)
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: &file.Catalog})
	require.NoError(t, err)
	defer jobs.Close()
	member := func(number int) tasks.Job {
		return tasks.Job{ID: batches.MemberID(id, number), TaskType: "fast_summary", Input: "A text.", Tenant: "default", Member: &tasks.Member{Batch: id, Number: number}}
	}
	for _, err := range jobs.EnqueueMany(t.Context(), slices.Values([]tasks.Job{member(0), member(1)})) {
		require.NoError(t, err)
	}
	require.NoError(t, jobs.RefuseMember(t.Context(), "line 3", member(2), tasks.Failure{Class: tasks.ClassInvalid, Code: "model_not_found", Message: "no"}))

	require.Regexp(t, `(?m)^`+id+` +in_progress +1/3 +1 +\$0 .*night.jsonl$`, run("", "batch", "list").stdout)
	require.Contains(t, run("", "batch", "list", "--json").stdout, `"more":false`)
	status := run("", "batch", "status", id)
	require.Contains(t, status.stdout, "3: 0 succeeded, 1 failed, 0 cancelled, 0 expired, 2 to come")
	require.Regexp(t, `model_not_found +1 +`+batches.MemberID(id, 2), status.stdout)
	require.Contains(t, run("", "jobs", "list", "--batch", id).stdout, batches.MemberID(id, 1))

	cancelled := run("", "batch", "cancel", id)
	require.Contains(t, cancelled.stdout, "is cancelled: 0 succeeded, 2 cancelled, 0 still running", cancelled.stderr)
	again := run("", "batch", "cancel", id)
	require.Equal(t, exitFailed, again.status)
	require.Contains(t, again.stderr, "was not cancelled")
	require.Equal(t, "2 members of batch "+id+" run again\n", run("", "batch", "retry-failed", id).stdout)
	require.Contains(t, run("", "batch", "status", id, "--json").stdout, `"status":"in_progress"`)

	require.Contains(t, run("", "batch", "status", "batch_none").stderr, "no such batch")
	require.Equal(t, exitUsage, run("", "batch", "status").status)
	require.Equal(t, exitUsage, run("", "batch", "cancel", "a b").status)
	require.Equal(t, exitUsage, run("", "batch", "list", "--limit", "0").status)
}
