package pauses_test

import (
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestPauses(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *redis.Client{
		"embedded": func(t *testing.T) *redis.Client { client, _ := redistest.Embedded(t); return client },
		"real":     func(t *testing.T) *redis.Client { client, _ := redistest.Real(t); return client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, client := t.Context(), start(t)
			keys := keyspace.New("")
			store := pauses.New(client, keys)
			subscription := client.Subscribe(ctx, keys.Pauses())
			defer subscription.Close()
			_, err := subscription.Receive(ctx)
			require.NoError(t, err)
			state, err := store.Read(ctx)
			require.NoError(t, err)
			assert.Equal(t, pauses.State{Queues: []string{}, TaskTypes: []string{}}, state)

			for _, paused := range []bool{true, false} {
				for _, changed := range []bool{true, false} {
					got, err := store.SetQueue(ctx, "bulk", paused)
					require.NoError(t, err)
					assert.Equal(t, changed, got)
					got, err = store.SetTaskType(ctx, "summary", paused)
					require.NoError(t, err)
					assert.Equal(t, changed, got)
					for range 2 {
						_, err := subscription.ReceiveMessage(ctx)
						require.NoError(t, err, "every change is published")
					}
				}
				state, err := store.Read(ctx)
				require.NoError(t, err)
				assert.Equal(t, paused, state.Queue(tasks.Job{Priority: tasks.PriorityBulk}, ""))
				assert.Equal(t, paused, state.TaskType(tasks.Job{TaskType: "summary"}))
				assert.False(t, state.Queue(tasks.Job{}, ""), "the default queue goes on")
				assert.False(t, state.TaskType(tasks.Job{}))
			}

			_, err = pauses.New(client, keyspace.New("other:")).SetQueue(ctx, "bulk", true)
			require.NoError(t, err)
			state, err = store.Read(ctx)
			require.NoError(t, err)
			assert.Empty(t, state.Queues, "another deployment's queues are its own")

			// A console's pause is the same.
			require.NoError(t, asynq.NewInspectorFromRedisClient(client).PauseQueue("default"))
			changed, err := store.SetQueue(ctx, "default", true)
			require.NoError(t, err)
			assert.False(t, changed)
			_, err = store.SetTaskType(ctx, "adhoc", true)
			require.NoError(t, err)
			state, err = store.Read(ctx)
			require.NoError(t, err)
			assert.Equal(t, pauses.State{Queues: []string{"default"}, TaskTypes: []string{"adhoc"}}, state)
			assert.True(t, state.Queue(tasks.Job{}, ""))
			assert.True(t, state.TaskType(tasks.Job{Model: tasks.Models{"small"}}), "a job without a task type")
		})
	}
}
