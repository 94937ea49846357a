package envelope

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Backlog is how one of asynq's queues stands.
type Backlog struct {
	// Pending are the tasks that can be begun, also those in lanes; OldestAt is since when the oldest of them could, zero
	// where there is none.
	Pending  int64
	OldestAt time.Time

	Active, Scheduled, Retry, Archived, Completed int64
}

// Add adds that of another shard of the queue.
func (b *Backlog) Add(other Backlog) {
	b.Pending += other.Pending
	b.Active += other.Active
	b.Scheduled += other.Scheduled
	b.Retry += other.Retry
	b.Archived += other.Archived
	b.Completed += other.Completed
	b.older(other.OldestAt)
}

// older takes note of when a task could have been begun; zero is none.
func (b *Backlog) older(at time.Time) {
	if !at.IsZero() && (b.OldestAt.IsZero() || at.Before(b.OldestAt)) {
		b.OldestAt = at
	}
}

// QueueBacklogs reads how each queue of a deployment stands, over its shards, by the queue's name.
func QueueBacklogs(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) (map[string]*Backlog, error) {
	shards, err := FindShards(ctx, client, keys, 1)
	if err != nil {
		return nil, err
	}
	inAsynq := make([]string, len(shards))
	for i, shard := range shards {
		inAsynq[i] = shard.Name
	}
	backlogs, err := Backlogs(ctx, client, inAsynq)
	if err != nil {
		return nil, err
	}
	sums := map[string]*Backlog{}
	for _, name := range QueueNames() {
		sums[name] = &Backlog{}
	}
	for i, backlog := range backlogs {
		if sum := sums[shards[i].Queue]; sum != nil {
			sum.Add(backlog)
		}
	}
	return sums, nil
}

// Backlogs reads how queues stand, by their names in asynq, in two round trips. What it costs grows with the lanes, and
// not with the tasks.
func Backlogs(ctx context.Context, client redis.UniversalClient, queues []string) ([]Backlog, error) {
	backlogs, reads := make([]Backlog, len(queues)), make([]backlogRead, len(queues))
	pipe := client.Pipeline()
	for i, queue := range queues {
		reads[i] = readBacklog(ctx, pipe, queue)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read how %d queues stand in Redis: %w", len(queues), err)
	}
	pipe = client.Pipeline()
	for i := range reads {
		reads[i].lookCloser(ctx, pipe)
	}
	if pipe.Len() > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, fmt.Errorf("read the lanes of %d queues in Redis: %w", len(queues), err)
		}
	}
	for i := range reads {
		backlogs[i] = reads[i].backlog()
	}
	return backlogs, nil
}

// backlogRead is a queue that is being read.
type backlogRead struct {
	queue                                                  string
	pending, active, scheduled, retry, archived, completed *redis.IntCmd
	oldest, lanes                                          *redis.StringSliceCmd
	// since is that of the oldest task in no lane; nil where there is none. sizes and firsts are those of the lanes.
	since  *redis.SliceCmd
	sizes  []*redis.IntCmd
	firsts []*redis.ZSliceCmd
}

func readBacklog(ctx context.Context, pipe redis.Pipeliner, queue string) backlogRead {
	prefix := "asynq:{" + queue + "}:"
	return backlogRead{
		queue:   queue,
		pending: pipe.LLen(ctx, prefix+"pending"), active: pipe.LLen(ctx, prefix+"active"),
		scheduled: pipe.ZCard(ctx, prefix+"scheduled"), retry: pipe.ZCard(ctx, prefix+"retry"),
		archived: pipe.ZCard(ctx, prefix+"archived"), completed: pipe.ZCard(ctx, prefix+"completed"),
		oldest: pipe.LRange(ctx, prefix+"pending", -1, -1), lanes: pipe.SMembers(ctx, Lanes(queue).Groups),
	}
}

func (r *backlogRead) lookCloser(ctx context.Context, pipe redis.Pipeliner) {
	for _, id := range r.oldest.Val() {
		r.since = pipe.HMGet(ctx, "asynq:{"+r.queue+"}:t:"+id, "pending_since")
	}
	for _, lane := range r.lanes.Val() {
		key := Lanes(r.queue).Prefix + lane
		r.sizes, r.firsts = append(r.sizes, pipe.ZCard(ctx, key)), append(r.firsts, pipe.ZRangeWithScores(ctx, key, 0, 0))
	}
}

func (r *backlogRead) backlog() Backlog {
	b := Backlog{
		Pending: r.pending.Val(), Active: r.active.Val(), Scheduled: r.scheduled.Val(), Retry: r.retry.Val(),
		Archived: r.archived.Val(), Completed: r.completed.Val(),
	}
	if r.since != nil {
		text, _ := r.since.Val()[0].(string)
		if nanos, err := strconv.ParseInt(text, 10, 64); err == nil { // else it was begun meanwhile
			b.older(time.Unix(0, nanos))
		}
	}
	for i, size := range r.sizes {
		b.Pending += size.Val()
		for _, first := range r.firsts[i].Val() {
			b.older(time.Unix(int64(first.Score), 0))
		}
	}
	return b
}
