package reconciler

import "github.com/forebay-queue/forebay/tasks/envelope"

// queueKeys are asynq's keys of one queue (internal/base of v0.26.0), and one of ours. All share the queue's hash tag.
type queueKeys struct {
	pending, active, lease, scheduled, retry, archived, completed string
	// term is the leader's term that wrote last.
	term string
	// tasks is the prefix of the tasks' hashes.
	tasks string
	// lanes are the queue's, by tenant.
	lanes envelope.LaneKeys
}

func newQueueKeys(queue string) queueKeys {
	prefix := "asynq:{" + queue + "}:"
	return queueKeys{
		pending: prefix + "pending", active: prefix + "active", lease: prefix + "lease", scheduled: prefix + "scheduled",
		retry: prefix + "retry", archived: prefix + "archived", completed: prefix + "completed",
		term: prefix + "forebay:term", tasks: prefix + "t:", lanes: envelope.Lanes(queue),
	}
}

func (k queueKeys) forMend() []string {
	return []string{k.pending, k.active, k.lease, k.scheduled, k.retry, k.archived, k.completed, k.term, k.lanes.Groups}
}

func (k queueKeys) forRestore(id string) []string {
	return []string{
		k.tasks + id, k.pending, k.active, k.lease, k.scheduled, k.retry, k.archived, k.completed, k.term, k.lanes.Groups,
	}
}
