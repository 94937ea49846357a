package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// part is how many ranks of the long lists are looked at in one run of mend.
	part = 500
	// atOnce bounds how many dead deliveries are requeued, and messages read, in one step.
	atOnce = 500
)

// What mend says of a task.
const (
	requeued  = "requeued"
	leased    = "leased"
	released  = "released"
	adrift    = "adrift"
	single    = "single"
	forgotten = "forgotten"
	bare      = "bare"
)

// mendings are the log lines of what mend has done.
var mendings = map[string]string{
	requeued:  "requeued the task of a dead delivery",
	leased:    "gave an active task the lease that it lacked",
	released:  "took away the lease of a task that is not active",
	adrift:    "took away the lease of a task that is in no list",
	single:    "took a task out of one of the two places where it stood",
	forgotten: "took an ended task off the list whose hash is gone",
}

// mend brings a queue into order and requeues its dead deliveries.
func (r *Reconciler) mend(ctx context.Context, q *queue, dead []deadLease) error {
	args := []any{q.keys.tasks, q.rank, part, q.keys.lanes.Prefix}
	for _, lease := range dead[:min(len(dead), atOnce)] {
		args = append(args, lease.id, lease.expiry)
	}
	reply, err := r.run(ctx, mendScript, q.keys.forMend(), args...)
	if err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	if reply[0] != "ok" || len(reply)%2 != 0 {
		return fmt.Errorf("mend: the script answered %q and %d parts; versions of Forebay may be mixed", reply[0], len(reply))
	}
	q.rank += part
	if reply[1] == "1" {
		q.rank = 0
	}
	var problems []error
	for i := 2; i < len(reply); i += 2 {
		what, id := reply[i], reply[i+1]
		switch line, known := mendings[what]; {
		case what == bare:
			problems = append(problems, r.repair(ctx, q, id, ""))
			continue
		case !known:
			problems = append(problems, fmt.Errorf("mend: the script said %q of task %s", what, id))
			continue
		default:
			r.tell(q, id, what, line)
		}
		if what == adrift {
			problems = append(problems, r.clear(ctx, q, id))
		}
	}
	return errors.Join(problems...)
}

// tell writes the one line for one thing that was mended.
func (r *Reconciler) tell(q *queue, taskID, what, line string) {
	r.log.Warn().Str("queue", q.name).Str("task", taskID).Str("what", what).Msg(line)
}

// repair gives a task its message again, made from the record of its job; one that is no open job's is taken out. The
// message that cannot be decoded is empty where there is none.
func (r *Reconciler) repair(ctx context.Context, q *queue, taskID, unreadable string) error {
	made, open, err := r.current(ctx, q, taskID)
	if err != nil {
		return err
	}
	verb := "drop"
	if open {
		verb = "write"
	}
	word, place, err := r.restore(ctx, q, taskID, verb, made, unreadable)
	if err != nil {
		return err
	}
	trouble := "without a message"
	if unreadable != "" {
		trouble = "with a message that cannot be decoded"
	}
	switch word {
	case "written", "enqueued":
		r.tell(q, taskID, "rewritten", "wrote a task anew that stood in "+place+" "+trouble)
	case "dropped":
		r.tell(q, taskID, "dropped", "took a task out of "+place+" that stood there "+trouble+"; no open job has it")
	case "archived":
		r.log.Error().Str("queue", q.name).Str("task", taskID).Str("what", "archived").
			Msg("archived a task " + trouble + "; no open job has it: look who enqueues into this queue")
	}
	return nil
}

// clear takes away the hash of a task in no list, unless an open job has it: that job is found by its record.
func (r *Reconciler) clear(ctx context.Context, q *queue, taskID string) error {
	_, open, err := r.current(ctx, q, taskID)
	if err != nil || open {
		return err
	}
	_, _, err = r.restore(ctx, q, taskID, "drop", task{}, "")
	return err
}

// current makes a task anew when it is that of an open job's current run, in this queue.
func (r *Reconciler) current(ctx context.Context, q *queue, taskID string) (made task, open bool, err error) {
	id, run, err := jobOf(taskID)
	if err != nil {
		return task{}, false, nil //nolint:nilerr // a foreign task is no open job's
	}
	if q.of.Queue == envelope.WebhookQueueName {
		return r.currentWebhook(ctx, q, id, run)
	}
	record, err := r.store.Get(ctx, id)
	switch {
	case errors.Is(err, jobstore.ErrNotFound):
		return task{}, false, nil
	case err != nil && !errors.Is(err, jobstore.ErrUnreadable): // a task can be made of what is never sealed
		return task{}, false, err
	case record.Status.Ended(), record.Run != run, envelope.Queue(r.store.Keys(), record.Priority, record.Shard) != q.name:
		return task{}, false, nil
	}
	made, err = r.messages.of(r.store.Keys(), record)
	return made, err == nil, err
}

// restore runs the script of that name for one task.
func (r *Reconciler) restore(ctx context.Context, q *queue, taskID, verb string, made task, unreadable string) (word, place string, err error) {
	var due int64
	if made.due.After(time.Now()) {
		due = made.due.Unix() + 1 // asynq's scores are whole seconds, and none is to come early
	}
	reply, err := r.run(ctx, restoreScript, q.keys.forRestore(taskID),
		taskID, verb, made.msg, due, unreadable, made.lane, q.keys.lanes.Prefix)
	if err != nil {
		return "", "", fmt.Errorf("%s task %s: %w", verb, taskID, err)
	}
	if reply[0] == "enqueued" {
		err = r.redis.SAdd(ctx, envelope.AllQueues, q.name).Err() // so that consoles show the queue
	}
	return reply[0], reply[1], err
}

// readMessages looks at the messages of tasks that have become active: one that asynq cannot decode stops it from
// recovering any lease of the queue.
func (r *Reconciler) readMessages(ctx context.Context, q *queue) error {
	var fresh []string
	for id := range q.readable {
		if !q.leases.has(id) {
			delete(q.readable, id)
		}
	}
	for id := range q.leases.byID {
		if !q.readable[id] && len(fresh) < atOnce {
			fresh = append(fresh, id)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	pipe := r.redis.Pipeline()
	reads := make([]*redis.StringCmd, len(fresh))
	for i, id := range fresh {
		reads[i] = pipe.HGet(ctx, q.keys.tasks+id, "msg")
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read the messages of active tasks: %w", err)
	}
	var problems []error
	for i, id := range fresh {
		msg, err := reads[i].Result()
		switch {
		case err != nil: // without one: mend finds it
		case r.messages.unreadable(msg):
			problems = append(problems, r.repair(ctx, q, id, msg))
		default:
			q.readable[id] = true
		}
	}
	return errors.Join(problems...)
}
