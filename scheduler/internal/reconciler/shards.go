package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// emptyFor is how long a shard beyond the configured number must have been empty before it goes.
	emptyFor = 10 * time.Minute
	// lookForStrays is how often all shards are looked at that a queue can have.
	lookForStrays = time.Minute
)

func newQueue(of envelope.ShardOfQueue) *queue {
	return &queue{name: of.Name, of: of, keys: newQueueKeys(of.Name), readable: map[string]bool{}}
}

// findQueues looks which queues there are. One that is known and found no longer is forgotten, unless it is configured.
func (r *Reconciler) findQueues(ctx context.Context) error {
	found, err := envelope.FindShards(ctx, r.redis, r.store.Keys(), r.shards)
	if err != nil {
		return err
	}
	known := r.queues
	r.queues = make([]*queue, len(found))
	for i, of := range found {
		if at := slices.IndexFunc(known, func(q *queue) bool { return q.name == of.Name }); at >= 0 {
			r.queues[i] = known[at]
			r.queues[i].of = of
			continue
		}
		r.queues[i] = newQueue(of)
	}
	return nil
}

// queueOf is the queue that a task belongs into, by its record; nil for a priority that this version does not have. One
// that is not known yet is from now on: somebody is about to enqueue there.
func (r *Reconciler) queueOf(priority tasks.Priority, shard keyspace.Shard) *queue {
	name := envelope.Queue(r.store.Keys(), priority, shard)
	for _, q := range r.queues {
		if q.name == name {
			return q
		}
	}
	queue, parsed, ours := r.store.Keys().ParseQueue(name)
	if !ours || parsed != shard || !slices.Contains(envelope.QueueNames(), queue) {
		return nil
	}
	q := newQueue(envelope.ShardOfQueue{Queue: queue, Shard: shard, Name: name})
	r.queues = append(r.queues, q)
	return q
}

// reviewShards takes shards beyond the configured number off asynq's list once they are empty, and looks for those that
// are not and that nobody finds.
func (r *Reconciler) reviewShards(ctx context.Context) error {
	problems := []error{r.bounded(ctx, r.removeEmpty)}
	if time.Since(r.strays.looked) >= lookForStrays {
		r.strays.looked = time.Now()
		problems = append(problems, r.bounded(ctx, r.findStrays))
	}
	return errors.Join(problems...)
}

// removeEmpty removes the shards that nobody is to use any more and in which nothing has been for a while, not even a task
// that asynq only shows. Whoever enqueues there in the same moment is found by findStrays.
func (r *Reconciler) removeEmpty(ctx context.Context) error {
	var surplus []*queue
	for _, q := range r.queues {
		if q.of.Listed && !r.shards.Has(q.of.Shard) {
			surplus = append(surplus, q)
		}
	}
	if len(surplus) == 0 {
		return nil
	}
	pipe := r.redis.Pipeline()
	held := make([]*redis.IntCmd, len(surplus))
	for i, q := range surplus {
		of := q.of
		held[i] = pipe.Exists(ctx, append(r.store.Keys().QueueTasks(of.Queue, of.Shard), r.store.Keys().QueueEnded(of.Queue, of.Shard)...)...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("look whether %d shards are empty: %w", len(surplus), err)
	}
	var problems []error
	for i, q := range surplus {
		switch {
		case held[i].Val() > 0:
			q.emptySince = time.Time{}
		case q.emptySince.IsZero():
			q.emptySince = time.Now()
		case time.Since(q.emptySince) >= emptyFor:
			problems = append(problems, r.removeShard(q))
		}
	}
	return errors.Join(problems...)
}

// removeShard takes a shard off asynq's list, which refuses where it is not empty.
func (r *Reconciler) removeShard(q *queue) error {
	if err := r.term.Err(); err != nil {
		return err
	}
	err := r.inspector.DeleteQueue(q.name, false)
	switch {
	case errors.Is(err, asynq.ErrQueueNotEmpty), errors.Is(err, asynq.ErrQueueNotFound):
		q.emptySince = time.Time{}
		return nil
	case err != nil:
		return fmt.Errorf("remove the empty shard %s: %w", q.name, err)
	}
	q.of.Listed = false
	r.log.Info().Str("queue", q.name).Msg("removed a shard beyond the configured number, which was empty")
	return nil
}

// strays is what was seen of the shards that asynq does not list.
type strays struct {
	looked time.Time
	// paused are those that were paused while their queues were not.
	paused map[string]bool
}

// findStrays looks at every shard that a queue can have. One that has tasks and that asynq does not list is put there, so
// that workers find it: a producer lists a queue once in its life, and that may have been before it was removed. One that
// is paused alone and not listed, twice in a row, goes on: its queue was paused, and somebody has resumed it in a console
// of asynq, which shows no more than is listed.
func (r *Reconciler) findStrays(ctx context.Context) error {
	keys := r.store.Keys()
	pipe := r.redis.Pipeline()
	var all []envelope.ShardOfQueue
	var held, paused []*redis.IntCmd
	for _, of := range envelope.ShardsOf(keys, keyspace.MaxShards) {
		if slices.ContainsFunc(r.queues, func(q *queue) bool { return q.of.Listed && q.name == of.Name }) && of.Shard != keyspace.Unsharded {
			continue
		}
		all = append(all, of)
		held = append(held, pipe.Exists(ctx, keys.QueueTasks(of.Queue, of.Shard)...))
		paused = append(paused, pipe.Exists(ctx, keys.QueuePaused(of.Queue, of.Shard)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("look for shards that nobody finds: %w", err)
	}
	queuePaused, before := map[string]bool{}, r.strays.paused
	r.strays.paused = map[string]bool{}
	var problems []error
	for i, of := range all {
		if of.Shard == keyspace.Unsharded {
			queuePaused[of.Queue] = paused[i].Val() > 0
		}
		switch {
		case held[i].Val() > 0:
			problems = append(problems, r.redis.SAdd(ctx, envelope.AllQueues, of.Name).Err())
		case paused[i].Val() > 0 && !queuePaused[of.Queue] && before[of.Name]:
			problems = append(problems, r.redis.Del(ctx, keys.QueuePaused(of.Queue, of.Shard)).Err())
		case paused[i].Val() > 0 && !queuePaused[of.Queue]:
			r.strays.paused[of.Name] = true
		}
	}
	return errors.Join(problems...)
}
