package envelope_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestLane(t *testing.T) {
	t.Parallel()
	member := &tasks.Member{Batch: "batch_1"}
	assert.Empty(t, envelope.Lane(tasks.Job{Tenant: "acme"}), "a job of its own")
	assert.Equal(t, "acme", envelope.Lane(tasks.Job{Tenant: "acme", Member: member}))
	assert.Equal(t, "default", envelope.Lane(tasks.Job{Member: member}))
	assert.Equal(t, "default", envelope.Lane(tasks.Job{Tenant: "a\xff", Member: member}), "asynq would stumble over it")
}

// Members wait in their tenant's lane, where asynq's inspector sees them, and come to pending one by one, in turn.
func TestNudge(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) redis.UniversalClient{
		"embedded": func(t *testing.T) redis.UniversalClient {
			t.Helper()
			client, _ := redistest.Embedded(t)
			return client
		},
		"real":    func(t *testing.T) redis.UniversalClient { t.Helper(); client, _ := redistest.Real(t); return client },
		"cluster": func(t *testing.T) redis.UniversalClient { t.Helper(); client, _ := redistest.Cluster(t); return client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, ctx := open(t), t.Context()
			keys, inspector := keyspace.New("other:"), asynq.NewInspectorFromRedisClient(client)
			merged, _ := envelope.Together(client)
			queue := asynq.NewClientFromRedisClient(merged)
			nudge := func() { require.NoError(t, envelope.Nudge(ctx, client, keys.Queue("bulk", ""))) }
			pending := func() []string { return client.LRange(ctx, keys.QueuePending("bulk", ""), 0, -1).Val() }
			nudge()
			require.Empty(t, pending(), "there is nothing")
			for _, tenant := range []string{"b", "a"} {
				for number := range 2 {
					job := tasks.Job{
						ID: fmt.Sprintf("%s-%d", tenant, number), Priority: tasks.PriorityBulk, Tenant: tenant,
						Member: &tasks.Member{Batch: tenant, Number: number},
					}
					task, options, err := envelope.New(keys, job, "", 1)
					require.NoError(t, err)
					_, err = queue.EnqueueContext(ctx, task, options...)
					require.NoError(t, err)
					_, err = queue.EnqueueContext(ctx, task, options...)
					require.ErrorIs(t, err, asynq.ErrTaskIDConflict)
				}
			}
			info, err := inspector.GetQueueInfo("other:bulk")
			require.NoError(t, err)
			require.Equal(t, 4, info.Aggregating)
			require.Equal(t, 2, info.Groups)
			for _, next := range []string{"a-0", "b-0", "a-1", "b-1"} {
				nudge()
				nudge()
				require.Equal(t, []string{next}, pending(), "one, and no other while it waits")
				found, err := inspector.GetTaskInfo("other:bulk", next)
				require.NoError(t, err)
				require.Equal(t, asynq.TaskStatePending, found.State)
				require.NoError(t, inspector.DeleteTask("other:bulk", next))
			}
			nudge()
			require.Empty(t, pending())
			require.Zero(t, client.Exists(ctx, envelope.Lanes("other:bulk").Groups).Val(), "no empty lanes are left")
		})
	}
}

func TestNudgeKeepsItsForm(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("nudge.lua")
	require.NoError(t, err)
	header, body, _ := strings.Cut(string(text), "\n\n")
	for _, part := range []string{"-- nudge: ", "-- KEYS[1]", "-- KEYS[2]", "-- KEYS[3]", "-- ARGV[1]", "-- ARGV[2]", "-- RETURNS", "-- CLOCK", "-- WRITES"} {
		assert.Contains(t, header, part)
	}
	for line := range strings.SplitSeq(body, "\n") {
		if strings.Contains(line, "KEYS[") || strings.Contains(line, "ARGV[") {
			assert.True(t, strings.HasPrefix(line, "local "), line)
		}
	}
}
