package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// lateBy is how long after its deadline a job is ended here. A delivery that runs ends it by itself.
	lateBy = 5 * time.Second
	// unreadableFor is how soon a job past its deadline is looked at again whose record cannot be opened.
	unreadableFor = 10 * time.Minute
	// judgements bounds how many jobs are judged each time.
	judgements = 500
)

// The codes of results that are given here.
const (
	// codeTaskArchived is that of a job whose task asynq has archived without a result.
	codeTaskArchived = "task_archived"
	// codeTaskDeleted is that of a job whose task was deleted in asynq's console.
	codeTaskDeleted = "task_deleted"
	codeDeadline    = "deadline_passed"
)

// reviewSuspects looks at the suspect jobs again, and judges those that have been suspect for long enough.
func (r *Reconciler) reviewSuspects(ctx context.Context) error {
	var ids []string
	for id := range r.records.suspects {
		ids = append(ids, id)
	}
	pending := map[string]map[string]bool{}
	for some := range slices.Chunk(ids, pageSize) {
		if err := r.bounded(ctx, func(ctx context.Context) error { return r.review(ctx, some, pending) }); err != nil {
			return err
		}
	}
	var problems []error
	left := judgements
	for id, known := range r.records.suspects {
		if time.Since(known.since) < missingFor || left == 0 {
			continue
		}
		left--
		problems = append(problems, r.bounded(ctx, func(ctx context.Context) error { return r.judge(ctx, id, known) }))
	}
	return errors.Join(problems...)
}

// judge brings a job to an end, or its task back, whose task has been missing for long enough.
func (r *Reconciler) judge(ctx context.Context, id string, known suspect) error {
	record, err := r.store.Get(ctx, id)
	if errors.Is(err, jobstore.ErrNotFound) || err == nil && (record.Status.Ended() || record.Run != known.run) {
		delete(r.records.suspects, id)
		return r.store.MendIndex(ctx, id)
	}
	if err != nil {
		return err
	}
	made, err := r.messages.of(r.store.Keys(), record)
	if err != nil {
		return err
	}
	q := r.queueOf(record.Priority, record.Shard)
	if q == nil {
		return nil
	}
	word, place, err := r.restore(ctx, q, made.id, "look", made, "")
	if err != nil {
		return err
	}
	over := place == "archived" || place == "completed"
	if word == "there" && !over {
		delete(r.records.suspects, id)
		return nil
	}
	if busy, err := r.busyWithout(ctx, record, known, place == "completed"); err != nil || busy {
		return err
	}
	switch {
	case place == "archived":
		return r.endArchived(ctx, q, record, made)
	case word == "nowhere" && place == "" && deleted(record, known):
		return r.reap(ctx, q, record, made.id, tasks.StatusCancelled, tasks.Failure{
			Class: tasks.ClassCancelled, Code: codeTaskDeleted, Message: "the job's task was deleted from its queue",
			Hint: "reopen the job to run it after all",
		})
	}
	word, place, err = r.restore(ctx, q, made.id, "write", made, "")
	if err != nil {
		return err
	}
	delete(r.records.suspects, id)
	if word == "enqueued" || word == "written" {
		r.tell(q, made.id, "enqueued", "enqueued the task of an open job that had none; it stands in "+place)
	}
	return nil
}

// busy tells whether somebody may still be at work on a job: a living worker that holds it, or that has a call out.
func (r *Reconciler) busy(ctx context.Context, record *jobstore.Record) (bool, error) {
	if record.Status == tasks.StatusRunning {
		alive, err := r.store.WorkerAlive(ctx, record.Worker)
		if err != nil || alive {
			return alive, err
		}
	}
	until, err := r.store.CloseOrphans(ctx, record, "")
	return !until.IsZero(), err
}

// busyWithout is busy for a job whose task is not to be delivered any more. A worker acknowledges a task with its last word
// on the delivery; where the record says otherwise, that word was lost, as with a master of Redis that had not replicated
// it, while the worker lives on. Where the task is gone without an ack, the worker has to show, for as long as the task
// must have been missing, that it gets on.
func (r *Reconciler) busyWithout(ctx context.Context, record *jobstore.Record, known suspect, acked bool) (bool, error) {
	busy, err := r.busy(ctx, record)
	if err != nil || !busy {
		return busy, err
	}
	if acked {
		until, err := r.store.CloseOrphans(ctx, record, "")
		return !until.IsZero(), err
	}
	at := record.Delivery
	if calls := len(record.Attempts); calls > 0 {
		at += fmt.Sprintf("/%d/%t", record.Attempts[calls-1].Seq, record.Attempts[calls-1].Ended)
	}
	if known.at != at {
		known.at, known.atSince = at, time.Now()
		r.records.suspects[record.ID] = known
	}
	if time.Since(known.atSince) < missingFor {
		return true, nil
	}
	until, err := r.store.CloseOrphans(ctx, record, "")
	return !until.IsZero(), err
}

// deleted tells whether a job that waits had its task once: it was delivered before, or the task was seen. One that is
// running with a dead worker was not deleted, as asynq's console refuses to delete what is active.
func deleted(record *jobstore.Record, known suspect) bool {
	return record.Status != tasks.StatusRunning && (record.Deliveries > 0 || known.hadTask)
}

// endArchived gives a job a result whose task asynq has archived, or its task back when asynq could not read it.
func (r *Reconciler) endArchived(ctx context.Context, q *queue, record *jobstore.Record, made task) error {
	msg, err := r.redis.HGet(ctx, q.keys.tasks+made.id, "msg").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	if err != nil || r.messages.unreadable(msg) {
		delete(r.records.suspects, record.ID)
		return r.repair(ctx, q, made.id, msg)
	}
	return r.reap(ctx, q, record, made.id, tasks.StatusFailed, tasks.Failure{
		Class: tasks.ClassInternal, Code: codeTaskArchived, Message: "asynq archived the job's task without a result",
		Hint: "look for the task in asynq's console, which shows why; reopen the job to run it again",
	})
}

// reap ends a job and says so.
func (r *Reconciler) reap(ctx context.Context, q *queue, record *jobstore.Record, taskID string, status tasks.Status, reason tasks.Failure) error {
	if err := r.term.Err(); err != nil {
		return err
	}
	done, err := r.store.Reap(ctx, record, status, reason, time.Now())
	if done {
		delete(r.records.suspects, record.ID)
		r.log.Warn().Str("queue", q.name).Str("task", taskID).Str("what", string(status)).Str("code", reason.Code).
			Msg("ended a job: " + reason.Message)
	}
	return err
}

// expire ends the jobs that are past their deadline and that nobody is at work on.
func (r *Reconciler) expire(ctx context.Context) error {
	var late []string
	var now time.Time
	err := r.bounded(ctx, func(ctx context.Context) (err error) {
		if now, err = r.redis.Time(ctx).Result(); err == nil {
			late, err = r.store.Overdue(ctx, now.Add(-lateBy), judgements/10)
		}
		return err
	})
	if err != nil {
		return err
	}
	var problems []error
	for _, id := range late {
		problems = append(problems, r.bounded(ctx, func(ctx context.Context) error { return r.expireOne(ctx, id, now) }))
	}
	return errors.Join(problems...)
}

func (r *Reconciler) expireOne(ctx context.Context, id string, now time.Time) error {
	record, err := r.store.Get(ctx, id)
	if errors.Is(err, jobstore.ErrNotFound) || err == nil && record.Status.Ended() {
		return r.store.MendIndex(ctx, id)
	}
	if errors.Is(err, jobstore.ErrUnreadable) {
		// It makes room for those behind it.
		return errors.Join(err, r.store.Postpone(ctx, id, now.Add(unreadableFor)))
	}
	if err != nil {
		return err
	}
	if deadline := record.Job.Deadline; deadline == nil || deadline.After(now) {
		return r.store.MendIndex(ctx, id) // the index had another deadline
	}
	if busy, err := r.busy(ctx, record); err != nil || busy {
		return err
	}
	q := r.queueOf(record.Priority, record.Shard)
	if q == nil {
		return nil
	}
	made, err := r.messages.of(r.store.Keys(), record)
	if err != nil {
		return err
	}
	return r.reap(ctx, q, record, made.id, tasks.StatusExpired, tasks.Failure{
		Class: tasks.ClassExpired, Code: codeDeadline,
		Message: "the job's deadline, " + record.Job.Deadline.UTC().Format(time.RFC3339) + ", passed before it was done",
		Hint:    "enqueue it again with a later deadline",
	})
}
