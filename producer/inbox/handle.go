package inbox

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/failpoint"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

var (
	//go:embed accept.lua
	acceptSource string
	//go:embed reject.lua
	rejectSource string
	//go:embed tell.lua
	tellSource string
	//go:embed leave.lua
	leaveSource string

	acceptScript = redis.NewScript(acceptSource)
	rejectScript = redis.NewScript(rejectSource)
	tellScript   = redis.NewScript(tellSource)
	leaveScript  = redis.NewScript(leaveSource)
)

// rememberRefusals is for how long a refusal is told once only, on a cluster: longer than any consumer can stand still
// between two steps.
const rememberRefusals = 24 * time.Hour

// handle brings entries to their end: accepted and taken out, or refused and moved. It returns how many stay pending,
// to be tried again. Each step may be repeated.
func (n *Inbox) handle(ctx context.Context, entries []entry) int {
	if len(entries) == 0 {
		return 0
	}
	failpoint.At("inbox.read")
	done, refusals, left, err := n.enqueue(ctx, entries)
	failpoint.At("inbox.accepted")
	if len(done) > 0 {
		if ackErr := n.takeOut(ctx, done); ackErr != nil {
			err, left = errors.Join(err, ackErr), left+len(done)
		}
		failpoint.At("inbox.acked")
	}
	for i := range refusals {
		if rejectErr := n.reject(ctx, &refusals[i]); rejectErr != nil {
			err, left = errors.Join(err, rejectErr), left+1
			if ctx.Err() != nil {
				left += len(refusals) - i - 1
				break
			}
		}
	}
	if len(refusals) > 0 {
		first := refusals[0]
		n.log.Warn().Int("refused", len(refusals)).Str("entry", first.entry.id).Str("job", first.refusedID).Str("code", first.code).
			Msg("the inbox has refused entries, of which the first is named; the reasons stand in " + n.keys.InboxRejected())
	}
	if err != nil {
		n.log.Warn().Err(err).Int("left", left).Msg("entries of the inbox stay pending and are tried again")
	}
	return left
}

// enqueue has the entries' jobs accepted. It returns the ids of the entries that are done with, those that are refused,
// how many are neither, and why.
func (n *Inbox) enqueue(ctx context.Context, entries []entry) (done []string, refusals []refusal, left int, err error) {
	jobs, from := make([]tasks.Job, 0, len(entries)), make([]entry, 0, len(entries))
	for _, e := range entries {
		if e.gone {
			done = append(done, e.id)
			continue
		}
		job, err := e.decode()
		if err != nil {
			refusals = append(refusals, newRefusal(e, err))
			continue
		}
		jobs, from = append(jobs, job), append(from, e)
	}
	left = len(jobs)
	for receipt, refused := range n.client.EnqueueMany(ctx, slices.Values(jobs)) {
		switch {
		case refused == nil:
			if receipt.Created {
				n.intake.Accepted()
			}
			done = append(done, from[receipt.Index].id)
			left--
		case errors.Is(refused, tasks.ErrInvalidJob), errors.Is(refused, producer.ErrIDConflict):
			refusals = append(refusals, newRefusal(from[receipt.Index], refused))
			left--
		case err == nil:
			err = refused
		}
	}
	return done, refusals, left, err
}

// takeOut acknowledges and deletes entries.
func (n *Inbox) takeOut(ctx context.Context, ids []string) error {
	args := make([]any, 0, len(ids)+1)
	args = append(args, Group)
	for _, id := range ids {
		args = append(args, id)
	}
	if err := acceptScript.Run(ctx, n.redis, []string{n.keys.Inbox()}, args...).Err(); err != nil {
		return fmt.Errorf("take %d entries out of the inbox: %w", len(ids), err)
	}
	return nil
}

// reject writes the refusal where the job's sender looks for it, and moves the entry to the refusals.
func (n *Inbox) reject(ctx context.Context, r *refusal) error {
	if err := n.record(ctx, r); err != nil {
		return err
	}
	failpoint.At("inbox.refused")
	if n.apart {
		if err := n.tell(ctx, r); err != nil {
			return err
		}
		failpoint.At("inbox.told")
		if err := n.takeOut(ctx, []string{r.entry.id}); err != nil {
			return err
		}
	} else {
		args := append([]any{Group, r.entry.id, n.config.MaxRejected}, r.fields(n.client.Sealer() != nil)...)
		if err := rejectScript.Run(ctx, n.redis, []string{n.keys.Inbox(), n.keys.InboxRejected()}, args...).Err(); err != nil {
			return fmt.Errorf("refuse the entry %s: %w", r.entry.id, err)
		}
	}
	failpoint.At("inbox.rejected")
	n.intake.Refused(r.code)
	return nil
}

// tell writes the refusal where the inbox lies in another slot.
func (n *Inbox) tell(ctx context.Context, r *refusal) error {
	args := append([]any{r.entry.id, n.config.MaxRejected, rememberRefusals.Milliseconds()}, r.fields(n.client.Sealer() != nil)...)
	if err := tellScript.Run(ctx, n.redis, []string{n.keys.InboxRejected(), n.keys.InboxRejections()}, args...).Err(); err != nil {
		return fmt.Errorf("refuse the entry %s: %w", r.entry.id, err)
	}
	return nil
}

// record writes a failed record under the job's id, or under the entry's where that is another job's or none. A job is
// never overwritten: where both are taken there is none.
func (n *Inbox) record(ctx context.Context, r *refusal) error {
	for _, id := range []string{r.id, r.entry.jobID()} {
		if id == "" {
			continue
		}
		job := r.job
		job.ID = id
		if known := n.client.Catalog(); known != nil { // the client may have another by now
			n.store.SetReplies(jobstore.Replies(known.ReplyStreams))
		}
		written, err := n.store.Refuse(ctx, jobstore.Refusal{
			What: "entry " + r.entry.id + " of the inbox", Job: job, Failure: r.failure(),
		})
		if err != nil {
			return err
		}
		if written {
			r.refusedID = id
			return nil
		}
	}
	return nil
}
