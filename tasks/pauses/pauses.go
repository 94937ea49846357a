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

// Queues are the names of the queues that can be paused: one for each priority, and that of the webhooks.
func Queues() []string {
	var names []string
	for _, priority := range tasks.Priorities() {
		names = append(names, string(priority))
	}
	return append(names, envelope.WebhookQueueName)
}

// State is all that is paused, each list in the order of its names.
type State struct {
	Queues    []string `json:"queues"`
	TaskTypes []string `json:"task_types"`
}

// Queue tells whether the queue of a job is paused.
func (s State) Queue(job tasks.Job) bool {
	return slices.Contains(s.Queues, string(cmp.Or(job.Priority, tasks.PriorityDefault)))
}

// Webhooks tells whether the queue of the webhooks is paused.
func (s State) Webhooks() bool { return slices.Contains(s.Queues, envelope.WebhookQueueName) }

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

// Read reads all that is paused, in one round trip.
func (s *Store) Read(ctx context.Context) (State, error) {
	pipe := s.client.Pipeline()
	types := pipe.SMembers(ctx, s.keys.PausedTaskTypes())
	queues := Queues()
	paused := make([]*redis.IntCmd, len(queues))
	for i, queue := range queues {
		paused[i] = pipe.Exists(ctx, s.keys.QueuePaused(queue))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return State{}, fmt.Errorf("read from Redis what is paused: %w", err)
	}
	state := State{Queues: []string{}, TaskTypes: sorted(types.Val())}
	for i, queue := range queues {
		if paused[i].Val() > 0 {
			state.Queues = append(state.Queues, queue)
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

// SetQueue pauses a queue, or resumes it. It tells whether that changed anything.
func (s *Store) SetQueue(ctx context.Context, queue string, paused bool) (changed bool, err error) {
	key := s.keys.QueuePaused(queue)
	if paused {
		// The time is what asynq's consoles write there.
		err = s.client.SetArgs(ctx, key, time.Now().Unix(), redis.SetArgs{Mode: "NX"}).Err()
		changed = err == nil
		if errors.Is(err, redis.Nil) { // it was paused before
			err = nil
		}
	} else {
		var removed int64
		removed, err = s.client.Del(ctx, key).Result()
		changed = removed > 0
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
