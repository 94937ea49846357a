package worker

import (
	"context"
	"errors"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// reasonUnreadable is what a job waits for whose record is sealed under a key that its worker does not have.
	reasonUnreadable = "unreadable"
	// unreadableWait is how soon it is delivered again: the key may have come, or another worker has it.
	unreadableWait = time.Minute
)

// giveBackUnread leaves a job to a later delivery whose record this worker cannot open. It costs the job nothing and ends
// it never: whoever has the key can still do it.
func (d *delivery) giveBackUnread(cause error) error {
	d.worker.log.Error().Err(cause).EmbedObject(d).Dur("wait", unreadableWait).
		Msg("a job's record cannot be opened; it goes back until its key is there")
	back := &returned{in: unreadableWait, why: cause.Error()}
	if d.record.Status.Ended() {
		return back // what its end sets off is told once it can be read
	}
	now := time.Now().UTC()
	err := d.worker.persist("give the job back", d, func(ctx context.Context) error {
		_, err := d.worker.store.GiveBack(ctx, d.jobID, d.record.Run, d.id, jobstore.GiveBack{
			Status:  tasks.StatusQueued,
			Waiting: &tasks.Waiting{Reason: reasonUnreadable, Since: now, Until: now.Add(unreadableWait)},
		})
		return err
	})
	switch {
	case errors.Is(err, jobstore.ErrEnded), errors.Is(err, jobstore.ErrStaleRun), errors.Is(err, jobstore.ErrNotFound),
		errors.Is(err, jobstore.ErrSuperseded):
		return nil
	case errors.Is(err, jobstore.ErrCancelled):
		return d.endUnread()
	}
	return back
}

// endUnread ends a job whose user has asked for it: for that nothing of it needs to be read.
func (d *delivery) endUnread() error {
	d.job = d.record.Job
	return d.commit(conclusion{ended: tasks.StatusCancelled, failure: cancelled()})
}
