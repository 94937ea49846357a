package envelope

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// WebhookTypePrefix begins the type of the tasks that are webhooks: "webhook:<event>".
	WebhookTypePrefix = "webhook:"
	// WebhookQueueName is what the queue of the webhooks is called, as a priority is.
	WebhookQueueName = "webhooks"
	// webhookTimeout is asynq's own for one delivery of a webhook. The worker's are shorter.
	webhookTimeout = 10 * time.Minute
)

// webhookID is what the ids of webhooks look like; see webhooks.ID.
var webhookID = regexp.MustCompile(`^msg_[0-9a-f]{32}$`)

// NewWebhook makes the task of a webhook's cycle, counted from 1, and the options to enqueue it with: into the shard of its
// record, not before a time, unless that is zero, and under TaskID, so that a task that is there is not enqueued twice. asynq forgets it once it is
// done: what came of it stands in the webhook's record.
func NewWebhook(keys keyspace.Keyspace, shard keyspace.Shard, id, event string, cycle int, at time.Time) (*asynq.Task, []asynq.Option, error) {
	if !tasks.ValidID(id) || !tasks.ValidName(event) || cycle < 1 {
		return nil, nil, fmt.Errorf("make the task of webhook %.80q, cycle %d: id, event or cycle is not valid", id, cycle)
	}
	options := []asynq.Option{
		asynq.TaskID(TaskID(id, cycle)),
		asynq.Queue(keys.Queue(WebhookQueueName, shard)),
		asynq.MaxRetry(MaxRetry),
		asynq.Timeout(webhookTimeout),
	}
	if !at.IsZero() {
		options = append(options, asynq.ProcessAt(wholeSeconds(at)))
	}
	return asynq.NewTask(WebhookTypePrefix+event, []byte(id)), options, nil
}

// IsWebhook tells webhooks from jobs.
func IsWebhook(task *asynq.Task) bool { return strings.HasPrefix(task.Type(), WebhookTypePrefix) }

// DecodeWebhook reads the task of a webhook as a worker is handed it: the webhook's id, and the cycle that the task was
// made for, or 0 where its id does not say. Any other task is ErrForeign.
func DecodeWebhook(task *asynq.Task) (id string, cycle int, err error) {
	id = string(task.Payload())
	if !IsWebhook(task) || !webhookID.MatchString(id) { // what somebody else has put there is not repeated
		return "", 0, fmt.Errorf("task of type %q with %d bytes: %w", printable(task.Type()), len(id), ErrForeign)
	}
	if writer := task.ResultWriter(); writer != nil {
		cycle = runOf(id, writer.TaskID())
	}
	return id, cycle, nil
}
