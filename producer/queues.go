package producer

import (
	"context"
	"fmt"
	"slices"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

// Queues are the queues of a deployment, and what is paused.
type Queues struct {
	Queues []Queue `json:"queues"`
	// PausedTaskTypes are those of which no call is begun.
	PausedTaskTypes []string `json:"paused_task_types"`
}

// Queue counts the tasks of a queue.
type Queue struct {
	Queue string `json:"queue"`
	// Pending are those that can be begun, also in the lanes of batches, which asynq's consoles show as groups.
	Pending   int `json:"pending"`
	Active    int `json:"active"`
	Scheduled int `json:"scheduled"`
	Retry     int `json:"retry"`
	Archived  int `json:"archived"`
	// Paused tells that no call of the queue is begun.
	Paused bool `json:"paused"`
}

// Queues reads the queues, the most urgent first.
func (c *Client) Queues(ctx context.Context) (Queues, error) {
	return within(ctx, func() (Queues, error) { return ReadQueues(ctx, c.redis, c.store.Keys()) })
}

// ReadQueues reads the queues of the deployment whose keys these are.
func ReadQueues(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) (Queues, error) {
	paused, err := pauses.New(client, keys).Read(ctx)
	if err != nil {
		return Queues{}, err
	}
	inspector := asynq.NewInspectorFromRedisClient(client)
	known, err := inspector.Queues()
	if err != nil {
		return Queues{}, fmt.Errorf("list the queues in Redis: %w", err)
	}
	all := Queues{PausedTaskTypes: paused.TaskTypes}
	for _, name := range pauses.Queues() {
		queue := Queue{Queue: name}
		if inAsynq := keys.Queue(name); slices.Contains(known, inAsynq) { // else nothing was ever enqueued there
			found, err := inspector.GetQueueInfo(inAsynq)
			if err != nil {
				return Queues{}, fmt.Errorf("read the queue %s in Redis: %w", name, err)
			}
			queue = Queue{name, found.Pending + found.Aggregating, found.Active, found.Scheduled, found.Retry, found.Archived, false}
		}
		queue.Paused = slices.Contains(paused.Queues, name)
		all.Queues = append(all.Queues, queue)
	}
	return all, nil
}

// PauseQueue has no worker begin a call of a queue, or, with paused false, has them go on. It tells whether that
// changed anything. Calls that are out finish.
func (c *Client) PauseQueue(ctx context.Context, queue string, paused bool) (changed bool, err error) {
	return within(ctx, func() (bool, error) { return c.pauses().SetQueue(ctx, queue, paused) })
}

// PauseTaskType is PauseQueue for all jobs of a task type.
func (c *Client) PauseTaskType(ctx context.Context, taskType string, paused bool) (changed bool, err error) {
	return within(ctx, func() (bool, error) { return c.pauses().SetTaskType(ctx, taskType, paused) })
}

// KnowsTaskType tells whether the catalog has a task type. A Client without a catalog knows all.
func (c *Client) KnowsTaskType(name string) bool {
	return c.catalog == nil || c.catalog.TaskTypes[name] != nil
}

func (c *Client) pauses() *pauses.Store { return pauses.New(c.redis, c.store.Keys()) }
