package producer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/failpoint"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// A chunk of EnqueueMany is written in one pipeline.
const (
	chunkJobs  = 256
	chunkBytes = 4 << 20
	// chunksOut is how many are written at a time: the records of one while the tasks of another are enqueued.
	chunksOut = 2
	// fewestPrepared is how many jobs are worth a goroutine of their own.
	fewestPrepared = 16
)

// Receipt says which job was accepted.
type Receipt struct {
	// Index is the job's place among those handed to EnqueueMany, from 0.
	Index int
	// ID is the job's. It is set as soon as the job is found valid, also beside an error.
	ID string
	// Created is false for a job that had been accepted before.
	Created bool
	// Status is queued for a new job; a job that was there is as far as it is.
	Status tasks.Status
}

// Enqueue accepts a job: once it returns without an error, the job is done or ended with a reason.
//
// A job that was accepted before, with the same id and asking for the same, is returned as it stands and not done
// twice; with the same id and asking for something else it is an ErrIDConflict. A job that is not valid is an error
// that wraps tasks.ErrInvalidJob and names the field. After ErrUnaccepted, enqueue it again under the receipt's id.
func (c *Client) Enqueue(ctx context.Context, job tasks.Job) (Receipt, error) {
	receipts, errs := c.accept(ctx, []tasks.Job{job})
	return receipts[0], errs[0]
}

// EnqueueMany is Enqueue for any number of jobs, written in pipelines. It yields a receipt or an error for every job
// it has taken, in order; a job that is refused does not touch the others, which go on. It takes jobs only as its
// results are read, some hundreds ahead, and none after ctx has ended: while some are written, the next are prepared.
func (c *Client) EnqueueMany(ctx context.Context, jobs iter.Seq[tasks.Job]) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		first, goesOn := 0, true
		var out []*chunk // being written, the oldest first
		for list := range chunks(jobs) {
			next := c.prepareChunk(ctx, list, first)
			first += len(list)
			var before *chunk
			if len(out) > 0 {
				before = out[len(out)-1]
			}
			next.begin(ctx, c, before)
			if out = append(out, next); len(out) == chunksOut {
				goesOn = out[0].yield(yield)
				out = out[1:]
			}
			if !goesOn || ctx.Err() != nil {
				break
			}
		}
		for _, rest := range out {
			<-rest.written // nothing is left running behind the caller's back
			goesOn = goesOn && rest.yield(yield)
		}
	}
}

// chunks cuts jobs into pieces that one pipeline may hold.
func chunks(jobs iter.Seq[tasks.Job]) iter.Seq[[]tasks.Job] {
	return func(yield func([]tasks.Job) bool) {
		var chunk []tasks.Job
		var size int
		for job := range jobs {
			chunk = append(chunk, job)
			size += len(job.Input) + len(job.Request)
			if len(chunk) < chunkJobs && size < chunkBytes {
				continue
			}
			if !yield(chunk) {
				return
			}
			chunk, size = nil, 0
		}
		if len(chunk) > 0 {
			yield(chunk)
		}
	}
}

// accept takes jobs in: record, index, task, in this order. Each step may be repeated, so that enqueueing a job again
// mends whatever a crash has left between them.
func (c *Client) accept(ctx context.Context, jobs []tasks.Job) ([]Receipt, []error) {
	all := c.prepareChunk(ctx, jobs, 0)
	all.begin(ctx, c, nil)
	<-all.written
	return all.receipts, all.errs
}

// chunk is jobs that are written together.
type chunk struct {
	receipts []Receipt
	errs     []error
	spans    []trace.Span // of all jobs
	prepared []jobstore.NewJob
	places   []int         // of the prepared jobs, among all
	created  chan struct{} // closed once their records stand
	written  chan struct{} // closed once all of it does
}

// prepareChunk prepares jobs, on all processors where there are many of them.
func (c *Client) prepareChunk(ctx context.Context, jobs []tasks.Job, first int) *chunk {
	all := &chunk{receipts: make([]Receipt, len(jobs)), errs: make([]error, len(jobs)), spans: make([]trace.Span, len(jobs)), created: make(chan struct{}), written: make(chan struct{})}
	ready := make([]jobstore.NewJob, len(jobs))
	one := func(i int) {
		all.receipts[i].Index, all.receipts[i].ID = first+i, jobs[i].ID
		job := jobs[i]
		all.spans[i] = tracing.Enqueue(ctx, &job)
		if ready[i], all.errs[i] = c.prepare(job); all.errs[i] != nil {
			endSpan(all.spans[i], job, all.receipts[i], all.errs[i])
			return
		}
		all.receipts[i].ID = ready[i].Job.ID
	}
	var group sync.WaitGroup
	share := max(fewestPrepared, (len(jobs)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for from := share; from < len(jobs); from += share {
		group.Go(func() {
			for i := from; i < min(from+share, len(jobs)); i++ {
				one(i)
			}
		})
	}
	for i := range min(share, len(jobs)) {
		one(i)
	}
	group.Wait()
	for i := range jobs {
		if all.errs[i] == nil {
			all.prepared, all.places = append(all.prepared, ready[i]), append(all.places, i)
		}
	}
	return all
}

// begin has the jobs written. Their records are created after those of the chunk before, so that of two jobs with one
// id the first is taken; its tasks may still be on their way.
func (all *chunk) begin(ctx context.Context, c *Client, before *chunk) {
	go func() {
		defer close(all.written)
		if before != nil {
			<-before.created
		}
		if len(all.prepared) == 0 {
			close(all.created)
			return
		}
		created := sync.OnceFunc(func() { close(all.created) })
		defer created()
		outcomes, err := within(ctx, func() ([]outcome, error) {
			if err := c.Room(ctx); err != nil {
				return nil, err
			}
			return c.write(ctx, all.prepared, created), nil
		})
		for at, i := range all.places {
			if err != nil {
				all.errs[i] = unaccepted(all.receipts[i].ID, err)
			} else {
				all.receipts[i].Created, all.receipts[i].Status = outcomes[at].created.Created, outcomes[at].created.Status
				all.errs[i] = outcomes[at].err
			}
			endSpan(all.spans[i], all.prepared[at].Job, all.receipts[i], all.errs[i])
		}
	}()
}

// yield waits until the jobs are written, and yields what came of them.
func (all *chunk) yield(yield func(Receipt, error) bool) bool {
	<-all.written
	for i, receipt := range all.receipts {
		if !yield(receipt, all.errs[i]) {
			return false
		}
	}
	return true
}

func (c *Client) prepare(job tasks.Job) (jobstore.NewJob, error) {
	known := c.Catalog()
	if known == nil {
		return jobstore.NewJob{}, errors.New("enqueue: this client has no catalog; give it Config.Catalog")
	}
	prepared, err := known.Prepare(job, time.Now())
	if err != nil {
		if tasks.ValidID(job.ID) {
			err = fmt.Errorf("job %s: %w", job.ID, err)
		}
		return jobstore.NewJob{}, err
	}
	return jobstore.NewJob(prepared), nil
}

// outcome is what came of one job that was written.
type outcome struct {
	created jobstore.Created
	err     error
}

// write writes records, index and tasks of jobs, and says when the records stand.
func (c *Client) write(ctx context.Context, jobs []jobstore.NewJob, recorded func()) []outcome {
	outcomes := make([]outcome, len(jobs))
	created, errs := c.store.CreateMany(ctx, jobs)
	failpoint.At("enqueue.indexed")
	recorded()
	var group errgroup.Group
	group.SetLimit(c.concurrency)
	for i, job := range jobs {
		outcomes[i].created = created[i]
		switch {
		case errors.Is(errs[i], ErrIDConflict):
			outcomes[i].err = errs[i]
		case errs[i] != nil:
			outcomes[i].err = unaccepted(job.Job.ID, errs[i])
		case !created[i].Status.Ended():
			group.Go(func() error {
				// The record says where its task belongs, not the job that was sent again.
				job.Job.Priority, job.Job.RunAt = created[i].Priority, nil
				if !created[i].RunAt.IsZero() {
					job.Job.RunAt = &created[i].RunAt
				}
				if err := c.enqueueTask(ctx, job.Job, created[i].Shard, created[i].Run); err != nil {
					outcomes[i].err = unaccepted(job.Job.ID, err)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // errors are the jobs' own
	c.awaitReplicas(ctx, jobs, outcomes)
	c.nudge(ctx, jobs, created)
	failpoint.At("enqueue.queued")
	return outcomes
}

// awaitReplicas waits until replicas have what was written without an error.
func (c *Client) awaitReplicas(ctx context.Context, jobs []jobstore.NewJob, outcomes []outcome) {
	ids, places := make([]string, 0, len(jobs)), make([]int, 0, len(jobs))
	for i, job := range jobs {
		if outcomes[i].err == nil && !outcomes[i].created.Status.Ended() {
			ids, places = append(ids, job.Job.ID), append(places, i)
		}
	}
	for at, err := range c.store.AwaitReplicas(ctx, ids) {
		if err != nil {
			outcomes[places[at]].err = unaccepted(ids[at], err)
		}
	}
}

// nudge has workers begin with what was enqueued into lanes. They look by themselves, but a second later.
func (c *Client) nudge(ctx context.Context, jobs []jobstore.NewJob, created []jobstore.Created) {
	nudged := map[string]bool{}
	for i, job := range jobs {
		queue := envelope.Queue(c.store.Keys(), created[i].Priority, created[i].Shard)
		if job.Job.Member != nil && !nudged[queue] {
			nudged[queue] = true
			_ = envelope.Nudge(ctx, c.redis, queue)
		}
	}
}

// enqueueTries bounds how often a task is enqueued again whose id others were clearing at the same time.
const enqueueTries = 3

// enqueueTask makes sure that a run's task is in its queue.
func (c *Client) enqueueTask(ctx context.Context, job tasks.Job, shard keyspace.Shard, run int) error {
	task, options, err := envelope.New(c.store.Keys(), job, shard, run)
	if err != nil {
		return err
	}
	for range enqueueTries {
		if _, err = c.queue.EnqueueContext(ctx, task, options...); err == nil {
			return nil
		}
		if !errors.Is(err, asynq.ErrTaskIDConflict) {
			break
		}
		var cleared bool
		if cleared, err = c.clearEnded(ctx, job, shard, run); err == nil && !cleared {
			return nil
		}
	}
	return fmt.Errorf("enqueue the task of job %s: %w", job.ID, err)
}

// clearEnded takes away a task that asynq only shows any more, completed or archived, though its job has not ended. It
// would keep its id from a job whose record is new, as after the retention of an earlier job of that id. It reports
// whether there was such a task.
func (c *Client) clearEnded(ctx context.Context, job tasks.Job, shard keyspace.Shard, run int) (bool, error) {
	queue, taskID := envelope.Queue(c.store.Keys(), job.Priority, shard), envelope.TaskID(job.ID, run)
	ended, err := c.taskEnded(queue, taskID)
	if err != nil || !ended {
		return false, err
	}
	// In this order: a task ends after its record, so that one which ended as it should is never taken for another's.
	record, err := c.store.Get(ctx, job.ID)
	if err != nil || record.Status.Ended() {
		return false, err
	}
	return true, c.inspector.DeleteTask(queue, taskID)
}

// taskEnded tells whether asynq only shows the task any more. One that is not there has not.
func (c *Client) taskEnded(queue, taskID string) (bool, error) {
	info, err := c.inspector.GetTaskInfo(queue, taskID)
	switch {
	case errors.Is(err, asynq.ErrTaskNotFound), errors.Is(err, asynq.ErrQueueNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return info.State == asynq.TaskStateCompleted || info.State == asynq.TaskStateArchived, nil
}

func unaccepted(id string, err error) error {
	switch {
	case errors.Is(err, ErrFull):
		return &fullError{fmt.Errorf("job %s was not accepted: %w; enqueue it again then, which repeats nothing", id, err)}
	case redis.HasErrorPrefix(err, "OOM"):
		return &fullError{fmt.Errorf("it is not known whether job %s was accepted: %w: %w; enqueue it again when there is, which repeats nothing", id, ErrFull, err)}
	case errors.Is(err, ErrUnreplicated):
		return fmt.Errorf("%w: %w; enqueue job %s again, which repeats nothing", ErrUnaccepted, err, id)
	}
	return fmt.Errorf("%w: %w; check that Redis runs and enqueue job %s again, which repeats nothing", ErrUnaccepted, err, id)
}

// fullError is an ErrFull that is an ErrUnaccepted, too, without saying that of a job of which it is known.
type fullError struct{ error }

func (e *fullError) Unwrap() []error { return []error{e.error, ErrUnaccepted} }
