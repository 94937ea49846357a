package producer

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
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
	// OldestS is for how many seconds the oldest of the pending could have been begun; null where there is none.
	OldestS *float64 `json:"oldest_s"`
	// Paused tells that no call of the queue is begun.
	Paused bool `json:"paused"`
	// Shards are those of the queue in which something was ever enqueued, where it has any; the unsharded one, which is
	// always consumed, is called as the queue is.
	Shards []QueueShard `json:"shards,omitempty"`
}

// QueueShard counts the tasks of one shard of a queue.
type QueueShard struct {
	// Shard is what asynq's consoles call it, but for a prefix.
	Shard     string `json:"shard"`
	Pending   int    `json:"pending"`
	Active    int    `json:"active"`
	Scheduled int    `json:"scheduled"`
	Retry     int    `json:"retry"`
	Archived  int    `json:"archived"`
	Paused    bool   `json:"paused"`
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
	// Whoever has ever enqueued into a shard has it listed: how many there are need not be known.
	found, err := envelope.FindShards(ctx, client, keys, 1)
	if err != nil {
		return Queues{}, err
	}
	found = slices.DeleteFunc(found, func(shard envelope.ShardOfQueue) bool { return !shard.Listed })
	inAsynq := make([]string, len(found))
	for i, shard := range found {
		inAsynq[i] = shard.Name
	}
	backlogs, err := envelope.Backlogs(ctx, client, inAsynq)
	if err != nil {
		return Queues{}, err
	}
	all := Queues{PausedTaskTypes: paused.TaskTypes}
	for _, name := range envelope.QueueNames() {
		queue := Queue{Queue: name, Paused: slices.Contains(paused.Queues, name)}
		var oldest time.Time
		for i, shard := range found {
			if shard.Queue != name {
				continue
			}
			counts := counted(shard, backlogs[i])
			counts.Paused = paused.Shard(name, shard.Shard)
			queue.add(counts)
			if at := backlogs[i].OldestAt; !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
		if !oldest.IsZero() {
			queue.OldestS = new(max(0, time.Since(oldest).Seconds()))
		}
		if len(queue.Shards) == 1 && queue.Shards[0].Shard == name {
			queue.Shards = nil
		}
		all.Queues = append(all.Queues, queue)
	}
	return all, nil
}

func (q *Queue) add(shard QueueShard) {
	q.Pending += shard.Pending
	q.Active += shard.Active
	q.Scheduled += shard.Scheduled
	q.Retry += shard.Retry
	q.Archived += shard.Archived
	q.Shards = append(q.Shards, shard)
}

func counted(shard envelope.ShardOfQueue, b envelope.Backlog) QueueShard {
	return QueueShard{
		Shard: shard.Label(), Pending: int(b.Pending), Active: int(b.Active), Scheduled: int(b.Scheduled), Retry: int(b.Retry), Archived: int(b.Archived),
	}
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
	known := c.Catalog()
	return known == nil || known.TaskTypes[name] != nil
}

func (c *Client) pauses() *pauses.Store { return pauses.New(c.redis, c.store.Keys()) }
