package producer

import (
	"context"
	"iter"

	"github.com/forebay-queue/forebay/tasks"
)

// Jobs is the way in for Go programs, whatever lies between them and the jobs: a Client reaches Redis itself, an
// HTTPClient a `forebay producer`. Both take the same jobs, and their errors wrap the same.
type Jobs interface {
	// Enqueue accepts a job. After ErrUnaccepted, enqueue it again under the receipt's id, which repeats nothing.
	Enqueue(ctx context.Context, job tasks.Job) (Receipt, error)
	// EnqueueMany is Enqueue for any number of jobs: a receipt or an error for each that was taken, in order.
	EnqueueMany(ctx context.Context, jobs iter.Seq[tasks.Job]) iter.Seq2[Receipt, error]
	// Get reads how a job stands.
	Get(ctx context.Context, id string) (tasks.Result, error)
	// Wait returns the result of a job once it has ended, for as long as ctx lasts.
	Wait(ctx context.Context, id string) (tasks.Result, error)
	// Cancel ends a job that waits, and has the worker of one that runs asked to end it.
	Cancel(ctx context.Context, id string) (tasks.Result, error)
	// Reopen runs a job again that failed, was cancelled or expired.
	Reopen(ctx context.Context, id string) (tasks.Result, error)
	// ReopenRun is Reopen while the job's run is the given one, as a list has shown it; else it is ErrStaleRun.
	ReopenRun(ctx context.Context, id string, run int) (tasks.Result, error)
	// Discard deletes all that is kept of a job which has ended; with a run that is not 0, while that is the job's.
	Discard(ctx context.Context, id string, run int) error
	// List reads a part of the jobs that a filter means.
	List(ctx context.Context, filter Filter, cursor string, limit int) (Page, error)
	// Group counts the jobs that a filter means.
	Group(ctx context.Context, filter Filter, by string) (Groups, error)
	// Ready reports whether jobs can be taken in.
	Ready(ctx context.Context) error
	// Close ends every Wait.
	Close() error
}

var (
	_ Jobs = (*Client)(nil)
	_ Jobs = (*HTTPClient)(nil)
)
