package command

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// status says what jobs wait for, those that wait for the same together.
func TestStatusShowsWhatJobsWaitFor(t *testing.T) {
	t.Parallel()
	run, client := onRedisWithClient(t)
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	until := time.Now().Add(time.Minute).UTC()
	for i, id := range []string{"one", "two", "three", "free"} {
		_, err := store.Create(t.Context(), jobstore.NewJob{Job: tasks.Job{ID: id, Priority: tasks.PriorityBulk, CreatedAt: &until}, Fingerprint: "f"})
		require.NoError(t, err)
		if id == "free" {
			continue
		}
		waiting := tasks.Waiting{Reason: "requests", Limit: "account acme", Route: "m@eu", Since: until, Until: until.Add(time.Duration(i) * time.Minute)}
		if id == "three" {
			waiting = tasks.Waiting{Reason: "breaker_open", Route: "m@us", Cause: tasks.ClassAuth, Since: until, Until: until}
		}
		encoded, err := tasks.Encode(waiting)
		require.NoError(t, err)
		require.NoError(t, client.HSet(t.Context(), store.Keys().Job(id), "waiting", encoded).Err())
	}
	got := run("", "status").stdout
	assert.Contains(t, got, "requests of account acme, for m@eu")
	assert.Contains(t, got, "breaker open of m@us (auth)")
	var reply statusReply
	require.NoError(t, json.Unmarshal([]byte(run("", "status", "--json").stdout), &reply))
	assert.Equal(t, 4, reply.Waiting.Open)
	assert.Equal(t, 4, reply.Waiting.Looked)
	require.Len(t, reply.Waiting.For, 2)
	assert.Equal(t, 2, reply.Waiting.For[0].Jobs)
	assert.Equal(t, time.Minute, reply.Waiting.For[0].Last.Sub(reply.Waiting.For[0].Next))
}

// Who closes a breaker by hand need not wait until the time is over at which its jobs would have come back.
func TestJobsGoOnWhenTheirBreakerIsClosed(t *testing.T) {
	t.Parallel()
	run, client := onRedisWithClient(t)
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	var reply breakersReply
	require.NoError(t, json.Unmarshal([]byte(run("", "breaker", "list", "--json").stdout), &reply))
	name := reply.Endpoints[0].Endpoint
	now := time.Now().UTC()
	for id, waiting := range map[string]tasks.Waiting{
		"held":  {Reason: "breaker_open", Route: "m@" + name, Since: now, Until: now.Add(time.Hour)},
		"other": {Reason: "breaker_open", Route: "m@elsewhere", Since: now, Until: now.Add(time.Hour)},
	} {
		job := tasks.Job{ID: id, Priority: tasks.PriorityBulk, CreatedAt: &now}
		_, err := store.Create(t.Context(), jobstore.NewJob{Job: job, Fingerprint: "f"})
		require.NoError(t, err)
		encoded, err := tasks.Encode(waiting)
		require.NoError(t, err)
		require.NoError(t, client.HSet(t.Context(), store.Keys().Job(id), "waiting", encoded).Err())
		task, options, err := envelope.New(store.Keys(), job, "", 1)
		require.NoError(t, err)
		_, err = asynq.NewClientFromRedisClient(client).Enqueue(task, append(options, asynq.ProcessIn(time.Hour))...)
		require.NoError(t, err)
	}
	require.Equal(t, 0, run("", "breaker", "close", name).status)
	inspector := asynq.NewInspectorFromRedisClient(client)
	held, err := inspector.GetTaskInfo("bulk", "held")
	require.NoError(t, err)
	assert.Equal(t, asynq.TaskStatePending, held.State)
	other, err := inspector.GetTaskInfo("bulk", "other")
	require.NoError(t, err)
	assert.Equal(t, asynq.TaskStateScheduled, other.State)
}
