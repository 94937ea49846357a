package envelope

import (
	"context"
	_ "embed" // for the script
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
)

// DefaultLane is the lane of members whose job names no tenant.
const DefaultLane = "default"

var (
	//go:embed nudge.lua
	nudgeSource string
	nudgeScript = redis.NewScript(nudgeSource)
)

// Lane is where the task of a job waits among those of its priority: the name of an asynq group, which is its tenant's
// for a member of a batch, or "" for every other job, which waits with all others. Workers take from the lanes, and from
// what is in none, in turn, so that a batch of 50,000 keeps nobody waiting but its tenant's other batches. asynq itself
// never touches a group, as no server has an aggregator.
func Lane(job tasks.Job) string {
	switch {
	case job.Member == nil:
		return ""
	case !tasks.ValidName(job.Tenant):
		return DefaultLane
	}
	return job.Tenant
}

// LaneKeys are the keys of a queue's lanes. All share the queue's hash tag.
type LaneKeys struct {
	// Groups is asynq's own set of their names, Prefix what begins the key of each: a sorted set of tasks by arrival.
	Groups, Prefix string
	// Turn is the lane whose turn was last.
	Turn string
}

// Lanes are the keys of the lanes of one of asynq's queues.
func Lanes(queue string) LaneKeys {
	prefix := "asynq:{" + queue + "}:"
	return LaneKeys{Groups: prefix + "groups", Prefix: prefix + "g:", Turn: prefix + "forebay:turn"}
}

// Nudge wakes the workers of one of asynq's queues after tasks have been enqueued into its lanes. Without it they begin
// within a second.
func Nudge(ctx context.Context, client redis.UniversalClient, queue string) error {
	prefix, lanes := "asynq:{"+queue+"}:", Lanes(queue)
	err := nudgeScript.Run(ctx, client, []string{prefix + "pending", lanes.Groups, lanes.Turn}, prefix+"t:", lanes.Prefix).Err()
	if err != nil {
		return fmt.Errorf("nudge the queue %s, whose workers go on within a second: %w", queue, err)
	}
	return nil
}
