package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// buildFailing builds the program with its failpoints, once.
var buildFailing = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "forebay-failpoints")
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", path, ".")
	build.Stderr = os.Stderr
	return path, build.Run()
})

// failing starts the program, to die at a failpoint; empty is none. It ends with the test.
func (d *deployment) failing(failpoint string, args ...string) *exec.Cmd {
	d.t.Helper()
	binary, err := buildFailing()
	require.NoError(d.t, err)
	cmd := exec.CommandContext(d.t.Context(), binary, args...)
	cmd.Dir, cmd.Env = d.dir, append(os.Environ(), "FOREBAY_FAILPOINT="+failpoint)
	var output bytes.Buffer
	cmd.Stderr, cmd.Stdout = &output, &output
	require.NoError(d.t, cmd.Start())
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if d.t.Failed() {
			d.t.Logf("%s %v:\n%s", failpoint, args, lastLines(output.String(), 20))
		}
	})
	return cmd
}

// requireKilled waits until the program has died at its failpoint.
func requireKilled(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	status, _ := exit.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled() && status.Signal() == syscall.SIGKILL, "it ended by itself: %s", exit)
}

// queuedTasks counts the tasks of the jobs, by their ids.
func (d *deployment) queuedTasks() map[string]int {
	d.t.Helper()
	found := map[string]int{}
	for _, id := range d.redis.LRange(d.t.Context(), d.store.Keys().QueuePending("default", ""), 0, -1).Val() {
		found[id]++
	}
	return found
}

const (
	inboxJobs     = 100
	inboxRefusals = 5
)

// The consumer of the inbox is killed between any two of its steps, and another one goes on: every job is there once, and
// every refusal is told once. All wait at the same time for what a dead consumer had to be taken up, after 30s.
func TestTheInboxKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	checks := map[string]func(t *testing.T){}
	for _, failpoint := range []string{
		"inbox.read", "enqueue.recorded", "enqueue.indexed", "enqueue.queued", "inbox.accepted", "inbox.acked", "inbox.refused",
		"inbox.rejected", "inbox.accepted:3", "inbox.refused:2",
	} {
		d := deploy(t, site{})
		want := d.fillInbox()
		requireKilled(t, d.failing(failpoint, "producer", "--listen", "off"))
		d.failing("", "producer", "--listen", "off")
		checks[failpoint] = func(t *testing.T) { d.requireInboxDone(t, want) }
	}
	for failpoint, check := range checks {
		t.Run(failpoint, check)
	}
}

// fillInbox writes jobs and what will be refused, and returns the tasks that there must be.
func (d *deployment) fillInbox() map[string]int {
	d.t.Helper()
	want := map[string]int{}
	for i := range inboxJobs {
		if i%2 == 0 {
			id := fmt.Sprintf("job-%d", i)
			d.write(fmt.Sprintf(`{"id":%q,"task_type":"fast_summary","input":"text %d"}`, id, i))
			want[id] = 1
		} else {
			want["inbox-"+d.write(fmt.Sprintf(`{"task_type":"fast_summary","input":"text %d"}`, i))] = 1
		}
		if i%(inboxJobs/inboxRefusals) == 0 {
			d.write(fmt.Sprintf(`{"id":"bad-%d","task_type":"fast_sumery","input":"x"}`, i))
		}
	}
	return want
}

func (d *deployment) requireInboxDone(t *testing.T, want map[string]int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return d.redis.XLen(context.Background(), d.store.Keys().Inbox()).Val() == 0
	}, 2*time.Minute, 50*time.Millisecond)
	assert.Equal(t, want, d.queuedTasks())
	for id := range want {
		record, err := d.store.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, tasks.StatusQueued, record.Status)
	}
	told, err := d.redis.XRange(t.Context(), d.store.Keys().InboxRejected(), "-", "+").Result()
	require.NoError(t, err)
	ids := map[any]bool{}
	for _, refusal := range told {
		ids[refusal.Values["id"]] = true
	}
	assert.Len(t, told, inboxRefusals)
	assert.Len(t, ids, inboxRefusals)
}

// write puts a job into the inbox.
func (d *deployment) write(job string) string {
	d.t.Helper()
	id, err := d.redis.XAdd(d.t.Context(), &redis.XAddArgs{Stream: d.store.Keys().Inbox(), Values: []string{"job", job}}).Result()
	require.NoError(d.t, err)
	return id
}

// A producer that is killed between any two steps of an enqueue does it again.
func TestAnEnqueueKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{})
	for _, failpoint := range []string{"enqueue.recorded", "enqueue.indexed", "enqueue.queued"} {
		args := []string{"enqueue", "--type", "fast_summary", "--input", "x", "--id", "job-" + failpoint[len("enqueue."):]}
		requireKilled(t, d.failing(failpoint, args...))
		require.NoError(t, d.failing("", args...).Wait())
	}
	assert.Equal(t, map[string]int{"job-recorded": 1, "job-indexed": 1, "job-queued": 1}, d.queuedTasks())
}

// A worker that is killed while it adopts a foreign task leaves it to another one.
func TestAnAdoptionKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	var waiting []*deployment
	for _, failpoint := range []string{"adopt.recorded", "adopt.queued"} {
		d := deploy(t, site{})
		_, err := asynq.NewClientFromRedisClient(d.redis).EnqueueContext(t.Context(),
			asynq.NewTask("completion:fast_summary", []byte(`{"id":"mine","input":"some text to be summarised"}`)))
		require.NoError(t, err)
		requireKilled(t, d.failing(failpoint, "worker"))
		d.failing("", "scheduler")
		d.failing("", "worker")
		waiting = append(waiting, d)
	}
	for _, d := range waiting {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		result, err := d.producer.Wait(ctx, "mine")
		require.NoError(t, err)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
		assert.Len(t, result.Attempts, 1)
	}
}
