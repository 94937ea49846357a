package command

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

func TestQueuesArePausedByName(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	assert.Equal(t, outcomeOf{stdout: "the queue bulk is paused; calls that are out finish\n"}, run("", "queue", "pause", "bulk"))
	assert.Equal(t, outcomeOf{stdout: "the queue bulk is paused, as it was before\n"}, run("", "queue", "pause", "bulk"))
	got := run("", "queue", "pause", "--task-type", "fast_summary,adhoc", "--json")
	assert.JSONEq(t, `{"paused":{"queues":["bulk"],"task_types":["adhoc","fast_summary"]}}`, got.stdout)
	list := run("", "queue", "list").stdout
	assert.Contains(t, list, "bulk (paused)  0")
	assert.Contains(t, list, "paused task types: adhoc, fast_summary\n")
	assert.Contains(t, run("", "status").stdout, list, "status shows the same")

	got = run("", "queue", "resume", "--all")
	assert.Contains(t, got.stdout, "the queue critical was not paused\n")
	assert.Contains(t, got.stdout, "the queue bulk goes on\n")
	assert.Contains(t, got.stdout, "still paused: task type adhoc, fast_summary; resume it with `forebay queue resume --task-type adhoc,fast_summary`\n")
	got = run("", "queue", "resume", "--task-type", "adhoc", "--task-type", "fast_summary", "--json")
	assert.JSONEq(t, `{"paused":{"queues":[],"task_types":[]}}`, got.stdout)
	got = run("", "queue", "pause", "--all", "--json")
	assert.JSONEq(t, `{"paused":{"queues":["critical","default","bulk","webhooks"],"task_types":[]}}`, got.stdout)
	var reply producer.Queues
	require.NoError(t, json.Unmarshal([]byte(run("", "queue", "list", "--json").stdout), &reply))
	for _, queue := range reply.Queues {
		assert.True(t, queue.Paused, queue.Queue)
	}
}

func TestWhatIsNotThereCannotBePaused(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	for _, test := range []struct {
		status int
		want   string
		args   []string
	}{
		{exitUsage, "give one of: the names of queues (critical, default, bulk, webhooks), --all, --task-type", nil},
		{exitUsage, "give one of: ", []string{"bulk", "--all"}},
		{exitUsage, `no queue "bulck", did you mean "bulk"?`, []string{"bulck"}},
		{exitUsage, `--task-type "a b" is no name of a task type`, []string{"--task-type", "a b"}},
		{exitFailed, `no task type "fast_summari", did you mean "fast_summary"?`, []string{"--task-type", "fast_summari"}},
	} {
		got := run("", append([]string{"queue", "pause"}, test.args...)...)
		assert.Equal(t, test.status, got.status, test.args)
		assert.Contains(t, got.stderr, test.want)
		assert.Empty(t, got.stdout)
	}
}

// The stop buttons of a running deployment: within a second of the command nothing new is called, what is out
// finishes, and work goes on when it is resumed.
func TestTheStopButtons(t *testing.T) {
	t.Parallel()
	const quiet = 2 * time.Second
	d := newSite(t, "--region", "near:300ms")
	d.worker(t)
	d.worker(t)
	enqueue := func(name string, n int, args ...string) {
		t.Helper()
		for i := range n {
			d.ok(t, append([]string{"enqueue", "--input", document, "--id", fmt.Sprintf("%s-%d", name, i)}, args...)...)
		}
	}
	status := func(id string) tasks.Status { return d.result(t, id).Status }
	// standsStill waits until the calls that were out have ended, and sees that none is begun.
	standsStill := func(what string) {
		t.Helper()
		time.Sleep(time.Second)
		before := d.asked(t)
		time.Sleep(quiet)
		assert.Equal(t, before, d.asked(t), what)
	}

	d.ok(t, "queue", "pause", "bulk")
	enqueue("bulk", 8, "--type", "fast_summary", "--priority", "bulk")
	enqueue("other", 1, "--type", "fast_summary")
	eventually(t, "the other queues go on", func() bool { return status("other-0") == tasks.StatusSucceeded })
	standsStill("a paused queue starts nothing")
	assert.EqualValues(t, 1, d.asked(t))

	d.ok(t, "queue", "resume", "bulk")
	eventually(t, "the queue goes on", func() bool { return d.asked(t) >= 3 })
	d.ok(t, "queue", "pause", "--all")
	standsStill("pausing in mid-work")
	d.ok(t, "queue", "resume", "--all")
	eventually(t, "every job of the queue is done", func() bool { return status("bulk-7") == tasks.StatusSucceeded })

	d.ok(t, "queue", "pause", "--task-type", "fast_summary")
	enqueue("typed", 3, "--type", "fast_summary")
	enqueue("adhoc", 1, "--model", "gemini-2.5-flash")
	eventually(t, "other jobs of the same queue go on", func() bool { return status("adhoc-0") == tasks.StatusSucceeded })
	standsStill("a paused task type starts nothing")
	result := d.result(t, "typed-0")
	assert.Equal(t, tasks.StatusQueued, result.Status)
	require.NotNil(t, result.Waiting)
	assert.Equal(t, "paused", result.Waiting.Reason)
	assert.Contains(t, d.ok(t, "get", "typed-0"), "waiting    paused, until ")
	d.ok(t, "queue", "resume", "--task-type", "fast_summary")
	d.ok(t, "get", "typed-0", "--wait", "--timeout", "1m")
	result = d.result(t, "typed-0")
	assert.Len(t, result.Attempts, 1)
	assert.Zero(t, result.Retries)
}
