package main_test

import (
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{slots: 1, callTimeout: time.Minute})
	require.NoError(t, d.sim.Region("first").SetOutage("hang"))

	// Jobs that wait end at once, and leave no task behind.
	tomorrow := time.Now().Add(24 * time.Hour)
	queued := d.enqueueJobs("queued", 1)[0]
	scheduled := d.enqueueJobs("scheduled", 1, func(job *tasks.Job) { job.RunAt = &tomorrow })[0]
	for _, id := range []string{queued, scheduled} {
		_, err := d.inspector.GetTaskInfo("default", id)
		require.NoError(t, err)
		output, err := d.command("cancel", id).CombinedOutput()
		require.NoError(t, err, string(output))
		assert.Equal(t, "job "+id+" is cancelled\n", string(output))
		assert.Equal(t, tasks.StatusCancelled, d.result(id).Status)
		_, err = d.inspector.GetTaskInfo("default", id)
		require.ErrorIs(t, err, asynq.ErrTaskNotFound)
	}

	// A job that runs ends as soon as its worker hears of it.
	d.startWorkers(1)
	running := d.enqueueJobs("running", 1)[0]
	d.eventually("the call is out", func() bool { return d.asked() == 1 })
	_, err := d.producer.Cancel(t.Context(), running)
	require.NoError(t, err)
	told := time.Now()
	result := d.await(time.Minute, running)[0]
	assert.Equal(t, tasks.StatusCancelled, result.Status)
	assert.Less(t, result.FinishedAt.Sub(told), time.Second)
	require.Len(t, result.Attempts, 1)
	assert.True(t, result.Attempts[0].Ended)
	assert.True(t, result.Attempts[0].MaybeBilled)
	assert.Equal(t, tasks.ClassCancelled, result.Attempts[0].Class)
	d.awaitEmpty(tasks.PriorityDefault)

	// Its slot, the only one, is free again.
	d.sim.Region("first").ClearOutage()
	assert.Equal(t, tasks.StatusSucceeded, d.await(time.Minute, d.enqueueJobs("next", 1)...)[0].Status)
	assert.Equal(t, 2, d.asked(), "nothing was called for the jobs that waited")
	d.stopWorkers(syscall.SIGTERM)
}

// A deadline ends a job with its call out.
func TestExpiry(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{callTimeout: time.Minute})
	require.NoError(t, d.sim.Region("first").SetOutage("hang"))
	d.startWorkers(1)
	deadline := time.Now().Add(2 * time.Second)
	running := d.enqueueJobs("running", 1, func(job *tasks.Job) { job.Deadline = &deadline })[0]
	result := d.await(time.Minute, running)[0]
	assert.Equal(t, tasks.StatusExpired, result.Status)
	assert.Equal(t, "deadline_passed", result.Error.Code)
	assert.WithinDuration(t, deadline, *result.FinishedAt, 2*time.Second)
	require.Len(t, result.Attempts, 1)
	assert.True(t, result.Attempts[0].MaybeBilled)
	d.awaitEmpty(tasks.PriorityDefault)
	d.stopWorkers(syscall.SIGTERM)
}

// However many ways a job comes in at once, it is one job; and its id is nobody else's.
func TestOneIDFromTwoProducers(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{})
	d.startWorkers(1)
	other := d.newProducer()
	const id, rounds = "the-same", 20
	var group sync.WaitGroup
	var mu sync.Mutex
	created, conflicts := 0, 0
	for i := range rounds {
		for _, client := range []*producer.Client{d.producer, other} {
			group.Go(func() {
				job := tasks.Job{ID: id, TaskType: "fast_summary", Input: text}
				receipt, err := client.Enqueue(t.Context(), job)
				assert.NoError(t, err, "round %d", i)
				mu.Lock()
				defer mu.Unlock()
				if receipt.Created {
					created++
				}
			})
		}
	}
	group.Wait()
	assert.Equal(t, 1, created)
	d.checkOnce(d.await(time.Minute, id))

	for range rounds {
		group.Go(func() {
			_, err := other.Enqueue(t.Context(), tasks.Job{ID: id, TaskType: "fast_summary", Input: "Something else."})
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, producer.ErrIDConflict) {
				conflicts++
			}
		})
	}
	group.Wait()
	assert.Equal(t, rounds, conflicts)
	output, err := d.command("enqueue", "--type", "fast_summary", "--id", id, "--input", "Something else.").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(output), id+": the id is taken")
	assert.Equal(t, 1, strings.Count(string(output), "\n"), "one clear line: %s", output)
	d.awaitEmpty(tasks.PriorityDefault)
	assert.Equal(t, 1, d.asked())
	d.stopWorkers(syscall.SIGTERM)
}
