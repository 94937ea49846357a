package worker

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

const (
	// reasonPaused is what a job waits for whose queue or task type somebody paused.
	reasonPaused = "paused"
	// pausedWait is how soon a delivery that a pause found in a worker's hands is looked at again, and so how late it
	// may resume: longer than what a delivery waits out on its slot. One of a paused queue then stands in the queue,
	// where asynq holds it; one of a paused task type is delivered again and again, at intervals that grow up to
	// pausedTypeWait.
	pausedWait     = waitInPlace + 2*time.Second
	pausedTypeWait = 30 * time.Second
	// pauseTimeout bounds the look at what is paused.
	pauseTimeout = 3 * time.Second
)

// refreshPauses looks at what is paused. Without an answer the last one holds. Unless all is asked for, an idle worker
// leaves the queues out: asynq hands it no task of a paused one.
func (w *Worker) refreshPauses(ctx context.Context, all bool) error {
	w.looking.Lock() // an answer never overtakes a later one
	defer w.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	before := cmp.Or(w.paused.Load(), &pauses.State{})
	var state pauses.State
	var err error
	if all || w.running.busy() || len(before.Queues)+len(before.Shards) > 0 {
		state, err = w.pauses.Read(ctx)
	} else {
		state.TaskTypes, err = w.pauses.TaskTypes(ctx)
	}
	if err != nil {
		return err
	}
	w.paused.Store(&state)
	if !slices.Equal(before.Queues, state.Queues) || !slices.Equal(before.TaskTypes, state.TaskTypes) || !slices.Equal(before.Shards, state.Shards) {
		w.log.Info().Strs("queues", state.Queues).Strs("task_types", state.TaskTypes).Msg("what is paused has changed")
	}
	return nil
}

// hearPauses looks at all that is paused: a change was published.
func (w *Worker) hearPauses() { w.tellPauses(w.refreshPauses(w.alive, true)) }

// watchPauses looks at what no message told, such as a console's pause of a queue.
func (w *Worker) watchPauses() { w.tellPauses(w.refreshPauses(w.alive, false)) }

func (w *Worker) tellPauses(err error) {
	if err != nil && w.alive.Err() == nil {
		w.log.Warn().Err(err).Msg("what is paused could not be read; the last known holds")
	}
}

// heldBack gives a job back, free of charge, whose queue or task type is paused; nil when no call of it is held back.
func (d *delivery) heldBack() *conclusion {
	state := d.worker.paused.Load()
	var wait time.Duration
	switch {
	case state == nil:
		return nil
	case state.TaskType(d.job):
		wait = min(pausedTypeWait, time.Duration(max(d.record.Deliveries, 1))*pausedWait)
	case state.Queue(d.job, d.record.Shard):
		wait = pausedWait
	default:
		return nil
	}
	now := time.Now()
	return &conclusion{wait: wait, waiting: tasks.Waiting{
		Reason: reasonPaused, Since: now.UTC(), Until: now.Add(wait).UTC(),
	}}
}
