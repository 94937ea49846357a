package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/attribute"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/failpoint"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

const (
	// adoptWait is how soon a task is enqueued again whose id the foreign one still has, and adoptTries how often: the
	// foreign one goes as soon as it is acknowledged. What is left then is the reconciler's.
	adoptWait  = 20 * time.Millisecond
	adoptTries = 500
)

// adopt takes in a whole job that somebody put into a queue of asynq: its record is written, its own task enqueued, and
// the foreign one acknowledged. Each step may be repeated: a job without an id has one of the foreign task's.
//
// What is refused ends as a failed result, and its task in asynq's archive with the reason; where what is kept is sealed,
// nowhere: neither of a refused nor of an adopted job does asynq go on showing the payload.
func (w *Worker) adopt(ctx context.Context, task *asynq.Task) (failed error) {
	foreign := w.foreignTask(ctx, task)
	job, err := foreign.job()
	job.Trace = tracing.FromTask(task.Headers())
	span := tracing.Enqueue(context.Background(), &job)
	line := tracing.Line{Job: job.ID, Span: span.SpanContext()}
	defer func() {
		tracing.Set(span, func() []attribute.KeyValue { return tracing.Enqueued(job) })
		if failed != nil {
			tracing.Fail(span, "not_adopted")
		}
		span.End()
	}()
	var prepared catalog.Prepared
	if err == nil {
		current := w.plans.use()
		prepared, err = current.catalog.Prepare(job, time.Now())
		w.plans.leave(current)
	}
	if err != nil {
		return w.refuse(foreign, job, "invalid_job", err)
	}
	id := prepared.Job.ID
	job, line.Job = prepared.Job, id
	var created jobstore.Created
	err = w.persist("adopt a job", line, func(ctx context.Context) (err error) {
		created, err = w.store.Create(ctx, jobstore.NewJob(prepared))
		return err
	})
	switch {
	case errors.Is(err, jobstore.ErrIDConflict):
		return w.refuse(foreign, job, "id_conflict", err)
	case err != nil:
		return &returned{in: repeatUnknown, why: err.Error()}
	case created.Status.Ended():
		w.forget(foreign)
		return nil
	}
	failpoint.At("adopt.recorded")
	// The record says where its task belongs.
	own := prepared.Job
	own.Priority, own.RunAt = created.Priority, nil
	if !created.RunAt.IsZero() {
		own.RunAt = &created.RunAt
	}
	if err := w.enqueueAdopted(foreign, own, created); err != nil {
		return &returned{in: repeatUnknown, why: err.Error()}
	}
	failpoint.At("adopt.queued")
	w.log.Info().EmbedObject(line).Str("task", printableID(foreign.id)).Str("queue", foreign.queue).Msg("a foreign task's job was adopted")
	w.forget(foreign)
	return nil
}

// enqueueAdopted enqueues a job's own task. Where the foreign one has its very id, in the same queue, it is enqueued as
// soon as that one is acknowledged.
func (w *Worker) enqueueAdopted(foreign foreignTask, job tasks.Job, created jobstore.Created) error {
	task, options, err := envelope.New(w.store.Keys(), job, created.Shard, created.Run)
	if err != nil {
		return err
	}
	enqueue := func() error {
		return w.persist("enqueue an adopted job", tracing.Line{Job: job.ID}, func(ctx context.Context) error {
			_, err := w.enqueuer.EnqueueContext(ctx, task, options...)
			return err
		})
	}
	if foreign.id != envelope.TaskID(job.ID, created.Run) || foreign.queue != envelope.Queue(w.store.Keys(), job.Priority, created.Shard) {
		if err = enqueue(); errors.Is(err, asynq.ErrTaskIDConflict) {
			return nil // it is there
		}
		return err
	}
	w.background.Go(func() {
		for range adoptTries {
			if !pause(w.writable, adoptWait) {
				return
			}
			if err = enqueue(); !errors.Is(err, asynq.ErrTaskIDConflict) {
				break
			}
			// One that asynq shows for a while after its end keeps its id.
			if shown, err := w.inspector.GetTaskInfo(foreign.queue, foreign.id); err == nil && shown.State == asynq.TaskStateCompleted {
				_ = w.inspector.DeleteTask(foreign.queue, foreign.id)
			}
		}
		if err != nil {
			w.log.Warn().Err(err).EmbedObject(tracing.Line{Job: job.ID}).Msg("an adopted job has no task yet; a scheduler enqueues it within two minutes")
		}
	})
	return nil
}

// refuse ends a foreign task that holds no job that can be accepted.
func (w *Worker) refuse(foreign foreignTask, job tasks.Job, code string, cause error) error {
	reason := strings.ToValidUTF8(cause.Error(), "?")
	known := tasks.Job{
		TaskType: job.TaskType, Tenant: job.Tenant, Metadata: job.Metadata,
	}
	if !tasks.ValidName(known.TaskType) {
		known.TaskType = ""
	}
	if !tasks.ValidName(known.Tenant) {
		known.Tenant = catalog.DefaultTenant
	}
	for _, id := range []string{job.ID, foreign.jobID()} {
		if !tasks.ValidID(id) {
			continue
		}
		known.ID = id
		var written bool
		err := w.persist("refuse a foreign task", tracing.Line{Job: id}, func(ctx context.Context) (err error) {
			written, err = w.store.Refuse(ctx, jobstore.Refusal{
				What: "task " + printableID(foreign.id) + " of " + foreign.queue, Job: known,
				Failure: tasks.Failure{
					Class: tasks.ClassInvalid, Code: code, Message: "refused by the worker: " + reason,
					Hint: "correct the job and enqueue it again; docs/wire.md says how",
				},
			})
			return err
		})
		if err != nil {
			return &returned{in: repeatUnknown, why: err.Error()}
		}
		if written {
			break
		}
	}
	if w.store.Sealer() != nil { // what asynq archives it shows, payload and all
		w.log.Warn().Str("task", printableID(foreign.id)).Str("queue", foreign.queue).Str("code", code).Msg("a foreign task was refused; its reason stands in the result of its job")
		w.forget(foreign)
		return nil
	}
	w.log.Warn().Str("task", printableID(foreign.id)).Str("queue", foreign.queue).Str("code", code).Msg("a foreign task was refused; its reason stands in asynq's archive")
	return fmt.Errorf("%s: %s: %w", code, reason, asynq.SkipRetry)
}

// forget deletes a foreign task that asynq would go on showing after its end, because its sender has asked for it, where
// what is kept of jobs is sealed: the job stands in its payload.
func (w *Worker) forget(foreign foreignTask) {
	if w.store.Sealer() == nil {
		return
	}
	w.background.Go(func() {
		for range adoptTries {
			if !pause(w.writable, adoptWait) {
				return
			}
			shown, err := w.inspector.GetTaskInfo(foreign.queue, foreign.id)
			switch {
			case errors.Is(err, asynq.ErrTaskNotFound), err == nil && !envelope.HoldsJob(asynq.NewTask(shown.Type, shown.Payload)):
				return // gone, or the job's own by now
			case err == nil && (shown.State == asynq.TaskStateCompleted || shown.State == asynq.TaskStateArchived):
				_ = w.inspector.DeleteTask(foreign.queue, foreign.id) // looked at again
			}
		}
		w.log.Warn().Str("task", printableID(foreign.id)).Str("queue", foreign.queue).Msg("a foreign task stays with its payload for as long as its retention says")
	})
}

// foreignTask is a task that Forebay has not made.
type foreignTask struct {
	id, queue string
	// of is the queue without its shard.
	of       string
	taskType string
	payload  []byte
	// priority is that of the queue.
	priority tasks.Priority
}

func (w *Worker) foreignTask(ctx context.Context, task *asynq.Task) foreignTask {
	f := foreignTask{payload: task.Payload()}
	f.id, _ = asynq.GetTaskID(ctx)
	f.queue, _ = asynq.GetQueueName(ctx)
	f.of = f.queue
	if name := strings.TrimPrefix(task.Type(), envelope.TypePrefix); name != envelope.Adhoc {
		f.taskType = name
	}
	if queue, _, ours := w.store.Keys().ParseQueue(f.queue); ours && slices.Contains(tasks.Priorities(), tasks.Priority(queue)) {
		f.priority, f.of = tasks.Priority(queue), w.store.Keys().Queue(queue, keyspace.Unsharded)
	}
	return f
}

// job reads the job, and what it leaves to its task. A job that could not be read is what is known of it.
func (f foreignTask) job() (tasks.Job, error) {
	job, err := tasks.DecodeJob(f.payload)
	if err != nil {
		return tasks.Job{}, err
	}
	if job.ID == "" {
		job.ID = f.jobID()
	}
	if job.TaskType == "" {
		job.TaskType = f.taskType
	}
	if f.taskType != "" && job.TaskType != f.taskType {
		return job, &tasks.FieldError{Field: "task_type", Problem: fmt.Sprintf(
			"is %.64q, and the task's type says %.64q; name one, or give the task the type %s%s", job.TaskType, f.taskType, envelope.TypePrefix, envelope.Adhoc)}
	}
	if job.Priority == "" {
		job.Priority = f.priority
	}
	return job, nil
}

// jobID is the id of a job that names none: that of its task and queue, so that the task delivered again is the same job,
// in whichever shard.
func (f foreignTask) jobID() string {
	queue := string(f.priority)
	if id := "asynq-" + queue + "-" + f.id; slices.Contains(tasks.Priorities(), f.priority) && f.id != "" && tasks.ValidID(id) {
		return id
	}
	sum := sha256.Sum256([]byte(f.of + "\x00" + f.id))
	return "asynq-" + hex.EncodeToString(sum[:16])
}

// printableID is the id of a task that may come from anywhere.
func printableID(id string) string {
	return strings.ToValidUTF8(id[:min(len(id), 128)], "?")
}
