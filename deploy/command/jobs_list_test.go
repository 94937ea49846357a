package command

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// failJobs enqueues jobs and has them end as failed, as a worker would.
func failJobs(t *testing.T, run func(string, ...string) outcomeOf, client *redis.Client, code string, ids ...string) {
	t.Helper()
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	defer func() { _ = store.Close() }()
	for _, id := range ids {
		require.Equal(t, exitOK, run("", "enqueue", "--id", id, "--type", "fast_summary", "--input", "The secret text.", "--metadata", "paper="+id).status)
		failRun(t, store, id, code)
	}
}

func failRun(t *testing.T, store *jobstore.Store, id, code string) {
	t.Helper()
	record, err := store.Start(t.Context(), id, jobstore.Delivery{ID: "d1", Worker: "w1"})
	require.NoError(t, err)
	result := record.Outcome(tasks.StatusFailed, time.Now())
	result.Error = &tasks.Failure{Class: tasks.ClassInvalid, Code: code, Message: "apac refused it", Hint: "ask for less"}
	committed, err := store.Commit(t.Context(), jobstore.Commit{ID: id, Run: record.Run, Delivery: "d1", Status: tasks.StatusFailed, Result: result})
	require.NoError(t, err)
	require.True(t, committed.Committed)
}

func TestJobsListShowAndGroups(t *testing.T) {
	t.Parallel()
	run, client := onRedisWithClient(t)
	got := run("", "jobs", "list")
	assert.Equal(t, outcomeOf{stderr: "forebay: no such jobs\n"}, got)
	failJobs(t, run, client, "too_long", "a", "b")
	failJobs(t, run, client, "odd", "c")
	require.Equal(t, exitOK, run("", "enqueue", "--id", "waits", "--type", "fast_summary", "--input", "x", "--run-at", "1h").status)

	got = run("", "jobs", "list", "--status", "failed", "--code", "too_long", "--newer-than", "1h")
	require.Equal(t, exitOK, got.status, got.stderr)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	require.Len(t, lines, 3, got.stdout)
	assert.Contains(t, lines[1], "too_long: apac refused it")
	assert.Contains(t, run("", "jobs", "list").stdout, "scheduled, until")
	assert.NotContains(t, run("", "jobs", "list").stdout, "secret")
	assert.Contains(t, run("", "jobs", "list", "--older-than", "1h").stderr, "no such jobs")

	got = run("", "jobs", "list", "--limit", "2", "--json")
	var list struct {
		Jobs []producer.Row `json:"jobs"`
		More bool           `json:"more"`
	}
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &list), got.stdout)
	assert.Len(t, list.Jobs, 2)
	assert.Equal(t, "waits", list.Jobs[0].ID, "open ones first")
	assert.True(t, list.More)
	assert.Contains(t, got.stderr, "there are more than these 2")
	require.NoError(t, json.Unmarshal([]byte(run("", "jobs", "list", "--all", "--json").stdout), &list))
	assert.Len(t, list.Jobs, 4)
	assert.False(t, list.More)

	got = run("", "jobs", "list", "--status", "failed", "--group-by", "code")
	assert.Regexp(t, `(?s)^CODE +JOBS +LATEST +EXAMPLE\ntoo_long +2 .*\nodd +1 `, got.stdout)

	got = run("", "jobs", "show", "a")
	require.Equal(t, exitOK, got.status, got.stderr)
	for _, part := range []string{"what to do  ask for less", "priority    default", "retries     0 of 4 spent", "kept        until it is retried or discarded", "tenant      default", "metadata    paper=a", "by worker w1"} {
		assert.Contains(t, got.stdout, part)
	}
	assert.NotContains(t, got.stdout, "secret")
	var shown showReply
	require.NoError(t, json.Unmarshal([]byte(run("", "jobs", "show", "a", "--json").stdout), &shown))
	assert.Contains(t, string(shown.Job.Request), "The secret text.")
	assert.Equal(t, "too_long", shown.Error.Code)
	assert.Contains(t, run("", "jobs", "show", "absent").stderr, "no such job")
	assert.Contains(t, run("", "jobs", "show", "a/b").stderr, "a/b")
}

func TestJobsRetryAndDiscard(t *testing.T) {
	t.Parallel()
	run, client := onRedisWithClient(t)
	failJobs(t, run, client, "too_long", "a", "b")
	failJobs(t, run, client, "odd", "c")

	got := run("", "jobs", "retry", "--code", "too_long", "--dry-run")
	assert.Contains(t, got.stdout, "too_long: apac refused it")
	assert.Equal(t, "forebay: 2 jobs; nothing was changed\n", got.stderr)
	got = run("", "jobs", "retry", "--status", "failed")
	assert.Equal(t, outcomeOf{status: exitFailed, stderr: "forebay: all jobs that are failed would be reopened; look at them with `forebay jobs list --status failed` and repeat it with --yes\n"}, got)
	assert.Equal(t, outcomeOf{stdout: "2 jobs reopened\n"}, run("", "jobs", "retry", "--code", "too_long"))
	assert.Contains(t, run("", "jobs", "show", "a").stdout, "queued, run 2")
	assert.Contains(t, run("", "jobs", "show", "a").stdout, "invalid (too_long): apac refused it", "why the earlier run failed")
	got = run("", "jobs", "retry", "a", "c", "absent")
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "job c is reopened\n", got.stdout)
	assert.Contains(t, got.stderr, "reopen job a: the job has not ended; wait for it or cancel it first")
	assert.Contains(t, got.stderr, "job absent: no such job")

	got = run("", "jobs", "discard", "a")
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stderr, "discard job a: the job has not ended; wait for it or cancel it first")
	require.Equal(t, exitOK, run("", "cancel", "a").status)
	assert.Equal(t, outcomeOf{stdout: "job a is discarded\n"}, run("", "jobs", "discard", "a"))
	assert.Contains(t, run("", "get", "a").stderr, "no such job")
	require.Equal(t, exitOK, run("", "cancel", "b").status)
	got = run("", "jobs", "discard", "--text", "B", "--json")
	assert.JSONEq(t, `{"jobs":1,"left_alone":0,"failed":0}`, got.stdout)
	require.Empty(t, client.Keys(t.Context(), "*job:b*").Val())
	for _, queue := range []string{"a", "b"} {
		require.Empty(t, client.Keys(t.Context(), "asynq:*:t:"+queue+"*").Val(), "asynq shows it no longer")
	}
}

// Many jobs are retried by several at once: each begins one run more, and no other.
func TestJobsRetryByMany(t *testing.T) {
	t.Parallel()
	run, client := onRedisWithClient(t)
	ids := make([]string, unasked+20)
	for i := range ids {
		ids[i] = fmt.Sprintf("job-%d", i)
	}
	failJobs(t, run, client, "odd", ids...)
	got := run("", "jobs", "retry", "--code", "odd")
	assert.Equal(t, outcomeOf{status: exitFailed, stderr: "forebay: more than 100 jobs would be reopened; look at them with `forebay jobs list --status failed --code odd` and repeat it with --yes\n"}, got)
	assert.Equal(t, outcomeOf{stdout: "10 jobs reopened\n"}, run("", "jobs", "retry", "--code", "odd", "--limit", "10"))

	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			got := run("", "jobs", "retry", "--code", "odd", "--yes")
			assert.Equal(t, exitOK, got.status, got.stderr)
		})
	}
	group.Wait()
	for _, id := range ids {
		assert.Equal(t, "2", client.HGet(t.Context(), "forebay:{job:"+id+"}", "run").Val())
		assert.Len(t, client.Keys(t.Context(), "asynq:*:t:"+id+".*").Val(), 1)
	}
}

func TestJobsUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, want string }{
		{"jobs list --status done", "no status \"done\"; there are queued, running, retrying, succeeded, failed, cancelled, expired; see `forebay jobs list --help`"},
		{"jobs list --group-by colour", "--group-by: no group \"colour\"; there are status, code, task_type, tenant, model, day; see `forebay jobs list --help`"},
		{"jobs list --since 2026-01-01 --newer-than 1h", "--since stands beside --newer-than; give one of them; see `forebay jobs list --help`"},
		{"jobs list --until soon", "--until must be a time such as 2026-12-31T08:00:00Z, or 2026-12-31 in this machine's time, got \"soon\"; see `forebay jobs list --help`"},
		{"jobs list --batch b/1", "--batch: \"b/1\" is no batch's id; `forebay batch list` shows them; see `forebay jobs list --help`"},
		{"jobs list --limit 0", "--limit must be at least 1, and stands in the place of --all; see `forebay jobs list --help`"},
		{"jobs retry", "give the ids of jobs, or which are meant, such as --status failed; see `forebay jobs retry --help`"},
		{"jobs retry a --status failed", "give the ids of jobs, or a filter, not both; --limit and --dry-run belong to a filter; see `forebay jobs retry --help`"},
		{"jobs retry --status succeeded", "jobs that are succeeded cannot be reopened: a success is never run again; see `forebay jobs retry --help`"},
		{"jobs discard --status queued", "jobs that are queued cannot be discarded: cancel them first, or wait for their end; see `forebay jobs discard --help`"},
	} {
		got := inProcess(t, "", strings.Fields(test.line)...)
		assert.Equal(t, "forebay: "+test.want+"\n", got.stderr)
		assert.Equal(t, exitUsage, got.status)
	}
}
