package producer

import (
	"context"
	"fmt"

	"github.com/forebay-queue/forebay/tasks/envelope"
)

// Discard deletes all that is kept of a job which has ended: what asynq shows of it, and its record. Its id is free
// then. A job that has not ended is ErrNotEnded: cancel it first. With a run that is not 0 it is discarded only while
// that is its run; one reopened since is ErrStaleRun.
func (c *Client) Discard(ctx context.Context, id string, run int) error {
	if err := checkID(id); err != nil {
		return err
	}
	_, err := within(ctx, func() (struct{}, error) { return struct{}{}, c.discard(ctx, id, run) })
	return named(id, err)
}

func (c *Client) discard(ctx context.Context, id string, run int) error {
	glances, err := c.store.Survey(ctx, []string{id})
	if err != nil {
		return err
	}
	seen := glances[0]
	switch {
	case seen.Status == "":
		return fmt.Errorf("discard job %s: %w", id, ErrNotFound)
	case run != 0 && seen.Run != run:
		return fmt.Errorf("discard job %s: %w", id, ErrStaleRun)
	case !seen.Status.Ended():
		return fmt.Errorf("discard job %s: %w", id, ErrNotEnded)
	}
	// The tasks go first: as soon as the record has gone, the id and the name of its task may be a new job's.
	queue := envelope.Queue(c.store.Keys(), seen.Priority, seen.Shard)
	for shown := 1; shown <= seen.Run; shown++ {
		// Most are no longer shown, and one that a worker is about to acknowledge goes by itself, within the hour.
		_ = c.inspector.DeleteTask(queue, envelope.TaskID(id, shown))
	}
	return c.store.Discard(ctx, id, seen.Run)
}
