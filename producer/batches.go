package producer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// membersAtOnce is how many members of a batch are changed at a time.
	membersAtOnce = 32
	// membersRead is how many are read in one round trip.
	membersRead = 500
)

// Batches are the batches of the deployment. Members are enqueued like any jobs, with their Member set: begin the batch
// before.
func (c *Client) Batches() *batches.Store { return c.store.Batches() }

// Results reads how jobs stand, in one round trip. Where there is no such job the ID is empty.
func (c *Client) Results(ctx context.Context, ids []string) ([]tasks.Result, error) {
	records, err := within(ctx, func() ([]*jobstore.Record, error) { return c.store.GetMany(ctx, ids) })
	if err != nil {
		return nil, err
	}
	results := make([]tasks.Result, len(ids))
	for i, record := range records {
		if record != nil {
			results[i] = record.Result()
		}
	}
	return results, nil
}

// CancelBatch asks a batch to end and cancels its members: those that wait end at once, those that run by their workers.
// It answers how the batch stands then. Cancelling it again goes on where an earlier call was cut off.
func (c *Client) CancelBatch(ctx context.Context, id, tenant string) (batches.Batch, error) {
	batch, err := c.Batches().Cancel(ctx, id, tenant)
	if err != nil || batch.Status.Ended() {
		return batch, err
	}
	if err := c.CancelMembers(ctx, id); err != nil {
		return batch, err
	}
	return c.Batches().Get(ctx, id, tenant)
}

// CancelMembers cancels the members of a batch that have not ended. One that was not enqueued yet counts as cancelled,
// and must not be enqueued any more.
func (c *Client) CancelMembers(ctx context.Context, id string) error {
	return c.members(ctx, id, func(state batches.State) bool { return !state.Ended() }, func(ctx context.Context, number int) error {
		member := batches.MemberID(id, number)
		reply, err := c.store.Cancel(ctx, member, "")
		switch {
		case errors.Is(err, jobstore.ErrNotFound):
			return c.Batches().Report(ctx, id, batches.Report{Number: number, State: batches.Cancelled})
		case err == nil && reply.Cancelled:
			_ = c.inspector.DeleteTask(envelope.Queue(c.store.Keys(), reply.Priority, reply.Shard), envelope.TaskID(member, reply.Run))
		}
		return err
	})
}

// RetryBatch runs those members of a batch again that failed, were cancelled or expired, and answers how many. Those that
// were refused are left alone: there is nothing to run. Those that were never enqueued are, by whoever works on the batch
// of a file; of a run they are its next start's.
func (c *Client) RetryBatch(ctx context.Context, id, tenant string) (int, error) {
	batch, err := c.Batches().Get(ctx, id, tenant)
	if err != nil {
		return 0, err
	}
	var reopened atomic.Int64
	if batch.Kind == batches.KindFile {
		// First, so that the batch does not end with those that are opened before all are.
		never, err := c.openNeverEnqueued(ctx, id)
		if err != nil {
			return 0, err
		}
		reopened.Add(int64(never))
	}
	unsuccessful := func(state batches.State) bool { return state.Ended() && state != batches.Succeeded }
	err = c.members(ctx, id, unsuccessful, func(ctx context.Context, number int) error {
		_, err := c.Reopen(ctx, batches.MemberID(id, number))
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrRefused), errors.Is(err, ErrNotEnded), errors.Is(err, ErrSucceeded):
			return nil
		case err == nil:
			reopened.Add(1)
		}
		return err
	})
	return int(reopened.Load()), err
}

func (c *Client) openNeverEnqueued(ctx context.Context, id string) (int, error) {
	numbers, err := c.Batches().NeverEnqueued(ctx, id)
	if err != nil {
		return 0, err
	}
	reports := make([]batches.Report, len(numbers))
	for i, number := range numbers {
		reports[i] = batches.Report{Number: number, State: batches.Open}
	}
	return len(reports), c.Batches().ReportMany(ctx, id, reports)
}

// ReleaseBatch says that the answers of a batch are written somewhere else: the records of its members that have ended
// are kept for the batch's retention from now on. Dead letters stay.
func (c *Client) ReleaseBatch(ctx context.Context, id string) error {
	batch, err := c.Batches().Get(ctx, id, "")
	if err != nil {
		return err
	}
	for from := 0; from < batch.Total; from += membersRead {
		if err := c.store.Release(ctx, memberIDs(id, from, min(from+membersRead, batch.Total)), batch.Retention); err != nil {
			return fmt.Errorf("release the members of batch %s: %w", id, err)
		}
	}
	return nil
}

// RefuseMember writes that a member's request was refused, as a record that has failed with the reason. What names what
// was refused, such as a line: refusing it again changes nothing.
func (c *Client) RefuseMember(ctx context.Context, what string, job tasks.Job, failure tasks.Failure) error {
	refused, err := c.store.Refuse(ctx, jobstore.Refusal{What: what, Job: job, Failure: failure})
	if err == nil && !refused {
		return fmt.Errorf("job %s: %w", job.ID, ErrIDConflict)
	}
	return err
}

// members does something with the members of a batch that are in some states, many at a time.
func (c *Client) members(ctx context.Context, id string, means func(batches.State) bool, do func(ctx context.Context, number int) error) error {
	states, err := c.Batches().Members(ctx, id)
	if err != nil {
		return err
	}
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(membersAtOnce)
	for number, state := range states {
		if going.Err() != nil {
			break
		}
		if means(state) {
			group.Go(func() error { return do(going, number) })
		}
	}
	if err := cmp.Or(group.Wait(), ctx.Err()); err != nil {
		return fmt.Errorf("batch %s: %w", id, err)
	}
	return nil
}

func memberIDs(batch string, from, until int) []string {
	ids := make([]string, 0, until-from)
	for number := from; number < until; number++ {
		ids = append(ids, batches.MemberID(batch, number))
	}
	return ids
}
