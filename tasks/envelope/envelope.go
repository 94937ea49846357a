// Package envelope makes and reads asynq's tasks. A task carries a job's id and nothing else, so that it stays small
// however large the job is; what the job asks for, and what becomes of it, stands in its record.
package envelope

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hibiken/asynq"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// TypePrefix begins the type of every task that is a job: "completion:<task type>". A mux of asynq routes by it.
	TypePrefix = "completion:"
	// Adhoc stands for the task type of a job that has none.
	Adhoc = "adhoc"

	// MaxRetry is never reached: failures are counted in the job's record, and asynq would end a job without a
	// result. It is no larger so that asynqmon's tables stay readable.
	MaxRetry = 1_000_000
	// Timeout is asynq's own for one delivery. All of a worker's are shorter.
	Timeout = 24 * time.Hour
	// MaxRetention is how long asynq shows a completed task at most. The record is kept for as long as the job says.
	MaxRetention = time.Hour
)

// ErrForeign says that a task was not made by this package.
var ErrForeign = errors.New("the task is no job of Forebay; enqueue jobs through one of its ways in")

// New makes the task of a prepared job's run, with its trace in the headers, and the options to enqueue it with: into the
// queue of its priority, there into its record's shard and its Lane, not before its run_at, under TaskID, so that a task that
// is there is not enqueued twice.
func New(keys keyspace.Keyspace, job tasks.Job, shard keyspace.Shard, run int) (*asynq.Task, []asynq.Option, error) {
	if !tasks.ValidID(job.ID) || (job.TaskType != "" && !tasks.ValidName(job.TaskType)) || run < 1 {
		// asynq stops recovering a whole queue at one task that it cannot decode: nothing odd gets in.
		return nil, nil, fmt.Errorf("make the task of job %q, run %d: id, task type or run is not valid; prepare the job with the catalog first", job.ID, run)
	}
	options := []asynq.Option{
		asynq.TaskID(TaskID(job.ID, run)),
		asynq.Queue(Queue(keys, job.Priority, shard)),
		asynq.MaxRetry(MaxRetry),
		asynq.Timeout(Timeout),
		asynq.Retention(retention(time.Duration(job.Retention))),
	}
	if lane := Lane(job); lane != "" {
		options = append(options, asynq.Group(lane))
	}
	if job.RunAt != nil {
		options = append(options, asynq.ProcessAt(wholeSeconds(*job.RunAt)))
	}
	return asynq.NewTaskWithHeaders(Type(job.TaskType), []byte(job.ID), job.Trace.Headers()), options, nil
}

// Type is the type of the tasks of a task type; empty is Adhoc's.
func Type(taskType string) string {
	if taskType == "" {
		taskType = Adhoc
	}
	return TypePrefix + taskType
}

// TaskID is the id of a run's task: the job's id for its first run, "<id>.<run>" for those after it, which asynq
// would otherwise refuse for as long as it shows the first.
func TaskID(id string, run int) string {
	if run == 1 {
		return id
	}
	return id + "." + strconv.Itoa(run)
}

// Queue is the name in asynq of a shard of a priority's queue; an empty priority is the default's.
func Queue(keys keyspace.Keyspace, priority tasks.Priority, shard keyspace.Shard) string {
	if priority == "" {
		priority = tasks.PriorityDefault
	}
	return keys.Queue(string(priority), shard)
}

// Decode reads a task as a worker is handed it: the job's id, and the run that the task was made for, or 0 where its
// id does not say, such as for a task that somebody enqueued by hand. Any other task is ErrForeign.
func Decode(task *asynq.Task) (id string, run int, err error) {
	id = string(task.Payload())
	if !strings.HasPrefix(task.Type(), TypePrefix) || !tasks.ValidID(id) {
		return "", 0, fmt.Errorf("task of type %q with %d bytes: %w", printable(task.Type()), len(id), ErrForeign)
	}
	if writer := task.ResultWriter(); writer != nil {
		run = runOf(id, writer.TaskID())
	}
	return id, run, nil
}

// HoldsJob tells of a task that somebody else has made: it has a job's type, and in its payload, in the place of an id,
// what is or was meant to be a whole job. A worker adopts it, or says why not.
func HoldsJob(task *asynq.Task) bool {
	return strings.HasPrefix(task.Type(), TypePrefix) && !tasks.ValidID(string(task.Payload()))
}

// runOf is the run that a task's id speaks of, or 0.
func runOf(id, taskID string) int {
	rest, found := strings.CutPrefix(taskID, id)
	if !found {
		return 0
	}
	if rest == "" {
		return 1
	}
	run, err := strconv.Atoi(strings.TrimPrefix(rest, "."))
	if err != nil || TaskID(id, run) != taskID {
		return 0
	}
	return run
}

func retention(job time.Duration) time.Duration {
	if job <= 0 {
		return MaxRetention
	}
	return min(job, MaxRetention)
}

// wholeSeconds rounds up: asynq cuts off the fraction, and would start the job up to a second early.
func wholeSeconds(at time.Time) time.Time {
	return at.Add(time.Second - time.Nanosecond).Truncate(time.Second)
}

// printable is a type that may come from anywhere, in a form that may go into a message.
func printable(text string) string {
	if len(text) > 100 {
		text = text[:100]
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "?")
	}
	return text
}
