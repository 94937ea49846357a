// Package pauses holds the stop buttons: queues and task types of which no worker begins a call.
//
// A paused queue is asynq's own pause, which its consoles show and set as well. A paused task type is Forebay's. Every
// change is published, so that workers see it at once; what that misses they see when they look again (see
// keyspace.Pauses). Calls that are out finish.
package pauses

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// State is all that is paused, each list in the order of its names.
type State struct {
	Queues    []string `json:"queues"`
	TaskTypes []string `json:"task_types"`
	// Shards are the shards of queues that are paused, by their labels. Whoever pauses a queue pauses all of its; asynq's
	// consoles show each for itself, and pause single ones.
	Shards []string `json:"shards,omitempty"`
}

// Queue tells whether the queue of a job is paused, in which its task stands in a shard.
func (s State) Queue(job tasks.Job, shard keyspace.Shard) bool {
	return s.Shard(string(cmp.Or(job.Priority, tasks.PriorityDefault)), shard)
}

// Webhooks tells whether a shard of the queue of the webhooks is paused.
func (s State) Webhooks(shard keyspace.Shard) bool {
	return s.Shard(envelope.WebhookQueueName, shard)
}

// Shard tells whether a shard of a queue is paused.
func (s State) Shard(queue string, shard keyspace.Shard) bool {
	if shard == keyspace.Unsharded {
		return slices.Contains(s.Queues, queue)
	}
	return slices.Contains(s.Shards, keyspace.QueueLabel(queue, shard))
}

// TaskType tells whether the task type of a job is paused. Jobs without one are of the type envelope.Adhoc.
func (s State) TaskType(job tasks.Job) bool {
	if len(s.TaskTypes) == 0 {
		return false
	}
	name := job.TaskType
	if name == "" {
		name = envelope.Adhoc
	}
	return slices.Contains(s.TaskTypes, name)
}

// Store reads and writes what is paused. It may be used by any number of goroutines.
type Store struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace
}

// New returns the Store of the deployment whose keys these are.
func New(client redis.UniversalClient, keys keyspace.Keyspace) *Store {
	return &Store{client: client, keys: keys}
}

// Read reads all that is paused, in two round trips.
func (s *Store) Read(ctx context.Context) (State, error) {
	known, err := envelope.FindShards(ctx, s.client, s.keys, 1) // in others nothing was ever enqueued
	if err != nil {
		return State{}, err
	}
	pipe := s.client.Pipeline()
	types := pipe.SMembers(ctx, s.keys.PausedTaskTypes())
	paused := make([]*redis.IntCmd, len(known))
	for i, shard := range known {
		paused[i] = pipe.Exists(ctx, s.keys.QueuePaused(shard.Queue, shard.Shard))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return State{}, fmt.Errorf("read from Redis what is paused: %w", err)
	}
	state := State{Queues: []string{}, TaskTypes: sorted(types.Val())}
	for i, shard := range known {
		switch {
		case paused[i].Val() == 0:
		case shard.Shard == keyspace.Unsharded:
			state.Queues = append(state.Queues, shard.Queue)
		default:
			state.Shards = append(state.Shards, shard.Label())
		}
	}
	return state, nil
}

// TaskTypes reads the paused task types alone, in the order of their names: one command.
func (s *Store) TaskTypes(ctx context.Context) ([]string, error) {
	names, err := s.client.SMembers(ctx, s.keys.PausedTaskTypes()).Result()
	if err != nil {
		return nil, fmt.Errorf("read from Redis what is paused: %w", err)
	}
	return sorted(names), nil
}

// sorted is a list that JSON writes as one even where it is empty.
func sorted(names []string) []string {
	list := append([]string{}, names...)
	slices.Sort(list)
	return list
}

// SetQueue pauses a queue, or resumes it, with every shard that it can have: one in which something is enqueued for the
// first time stands still as well. It tells whether that changed anything. After an error it may be repeated.
func (s *Store) SetQueue(ctx context.Context, queue string, paused bool) (changed bool, err error) {
	pipe := s.client.Pipeline()
	var set []*redis.StatusCmd
	var removed []*redis.IntCmd
	for _, shard := range append([]keyspace.Shard{keyspace.Unsharded}, keyspace.Shards(keyspace.MaxShards).All()...) {
		if key := s.keys.QueuePaused(queue, shard); paused {
			// The time is what asynq's consoles write there.
			set = append(set, pipe.SetArgs(ctx, key, time.Now().Unix(), redis.SetArgs{Mode: "NX"}))
		} else {
			removed = append(removed, pipe.Del(ctx, key))
		}
	}
	if _, err = pipe.Exec(ctx); errors.Is(err, redis.Nil) { // some were paused before
		err = nil
	}
	for i, cmd := range set {
		if i == 0 {
			changed = cmd.Err() == nil // the queue's own says how it stood
		}
		if cmd.Err() != nil && !errors.Is(cmd.Err(), redis.Nil) {
			err = cmd.Err()
		}
	}
	for _, cmd := range removed {
		changed = changed || cmd.Val() > 0
	}
	if err = s.publish(ctx, err); err != nil {
		return false, fmt.Errorf("pause or resume the queue %s: %w", queue, err)
	}
	return changed, nil
}

// SetTaskType pauses a task type, or resumes it. It tells whether that changed anything.
func (s *Store) SetTaskType(ctx context.Context, taskType string, paused bool) (changed bool, err error) {
	var count int64
	if paused {
		count, err = s.client.SAdd(ctx, s.keys.PausedTaskTypes(), taskType).Result()
	} else {
		count, err = s.client.SRem(ctx, s.keys.PausedTaskTypes(), taskType).Result()
	}
	if err = s.publish(ctx, err); err != nil {
		return false, fmt.Errorf("pause or resume the task type %s: %w", taskType, err)
	}
	return count > 0, nil
}

// publish tells the workers of a change that was written without an error.
func (s *Store) publish(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return s.client.Publish(ctx, s.keys.Pauses(), "").Err()
}
