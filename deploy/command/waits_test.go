package command

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
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
