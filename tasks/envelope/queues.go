package envelope

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// AllQueues is asynq's own key: the names of all queues, of every deployment on a Redis, a set. Whoever enqueues into a
// queue puts it there, once in each process.
const AllQueues = "asynq:queues"

// QueueNames are what the queues are called that users see: one for each priority, the most urgent first, and that of the
// webhooks. Each has one or more shards.
func QueueNames() []string {
	var names []string
	for _, priority := range tasks.Priorities() {
		names = append(names, string(priority))
	}
	return append(names, WebhookQueueName)
}

// ShardOfQueue is one of asynq's queues of a deployment.
type ShardOfQueue struct {
	// Queue is what users call the queue: one of QueueNames.
	Queue string
	Shard keyspace.Shard
	// Name is the one in asynq.
	Name string
	// Listed tells that asynq knows it: something was enqueued there.
	Listed bool
}

// Label is what users call the shard.
func (s ShardOfQueue) Label() string { return keyspace.QueueLabel(s.Queue, s.Shard) }

// ShardsOf are the queues that a deployment has in any case: each of QueueNames unsharded, and its shards.
func ShardsOf(keys keyspace.Keyspace, shards keyspace.Shards) []ShardOfQueue {
	var all []ShardOfQueue
	for _, queue := range QueueNames() {
		all = append(all, ShardOfQueue{Queue: queue, Name: keys.Queue(queue, keyspace.Unsharded)})
		if shards <= 1 {
			continue
		}
		for _, shard := range shards.All() {
			all = append(all, ShardOfQueue{Queue: queue, Shard: shard, Name: keys.Queue(queue, shard)})
		}
	}
	return all
}

// FindShards are ShardsOf and those beside them that asynq knows, because another process has or had another number of
// shards: in the order of QueueNames, there by their numbers. It is one command.
func FindShards(ctx context.Context, client redis.Cmdable, keys keyspace.Keyspace, shards keyspace.Shards) ([]ShardOfQueue, error) {
	listed, err := client.SMembers(ctx, AllQueues).Result()
	if err != nil {
		return nil, fmt.Errorf("list the queues in Redis: %w", err)
	}
	all, names := ShardsOf(keys, shards), QueueNames()
	for i := range all {
		all[i].Listed = slices.Contains(listed, all[i].Name)
	}
	for _, name := range listed {
		queue, shard, ours := keys.ParseQueue(name)
		if ours && slices.Contains(names, queue) && !shards.Has(shard) {
			all = append(all, ShardOfQueue{Queue: queue, Shard: shard, Name: name, Listed: true})
		}
	}
	slices.SortFunc(all, func(a, b ShardOfQueue) int {
		return cmp.Or(cmp.Compare(slices.Index(names, a.Queue), slices.Index(names, b.Queue)), cmp.Compare(a.Shard.Number(), b.Shard.Number()))
	})
	return all, nil
}
