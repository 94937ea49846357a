package reconciler

import (
	"context"
	"errors"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// reasonArchived is that of a webhook whose task somebody has archived in asynq's console.
const reasonArchived = "task_archived"

// webhookReview is where the review of the pending webhooks stands.
type webhookReview struct {
	rank     int
	suspects map[string]suspect
}

// reviewWebhooks looks at the next of the pending webhooks, enqueues those again whose tasks have been missing for long
// enough, and takes those out of the lists whose records have expired.
func (r *Reconciler) reviewWebhooks(ctx context.Context) error {
	var problems []error
	pending := map[string]map[string]bool{}
	for looked, round := 0, false; looked < perReview && !round && len(problems) == 0; {
		err := r.bounded(ctx, func(ctx context.Context) error {
			glances, held, err := r.store.Webhooks().Pending(ctx, r.webhooks.rank, pageSize)
			if err != nil {
				return err
			}
			looked += pageSize
			r.webhooks.rank += len(glances)
			if round = held < pageSize; round {
				r.webhooks.rank = 0
			}
			return r.suspectWebhooks(ctx, glances, pending)
		})
		if err != nil {
			problems = append(problems, err)
		}
	}
	left := judgements
	for id, known := range r.webhooks.suspects {
		if time.Since(known.since) < missingFor || left == 0 {
			continue
		}
		left--
		problems = append(problems, r.bounded(ctx, func(ctx context.Context) error { return r.judgeWebhook(ctx, id, known) }))
	}
	problems = append(problems, r.bounded(ctx, func(ctx context.Context) error {
		_, err := r.store.Webhooks().Sweep(ctx, pageSize)
		return err
	}))
	return errors.Join(problems...)
}

// suspectWebhooks remembers which webhooks have no task, and since when.
func (r *Reconciler) suspectWebhooks(ctx context.Context, glances []webhooks.Glance, pending map[string]map[string]bool) error {
	// Where tasks stand is asked as for jobs: the queue of the webhooks is named as that of a priority is.
	open := make([]jobstore.Glance, len(glances))
	for i, glance := range glances {
		open[i] = jobstore.Glance{ID: glance.ID, Run: glance.Cycle, Priority: tasks.Priority(envelope.WebhookQueueName), Shard: glance.Shard}
	}
	missing, err := r.missing(ctx, open, pending)
	if err != nil {
		return err
	}
	for i, glance := range glances {
		before, suspected := r.webhooks.suspects[glance.ID]
		switch {
		case !missing[i]:
			delete(r.webhooks.suspects, glance.ID)
		case !suspected || before.run != glance.Cycle:
			r.webhooks.suspects[glance.ID] = suspect{run: glance.Cycle, since: time.Now()}
		}
	}
	return nil
}

// judgeWebhook brings the task of a webhook back that has been missing for long enough. One that somebody has archived
// has ended the webhook: it is a dead letter.
func (r *Reconciler) judgeWebhook(ctx context.Context, id string, known suspect) error {
	record, err := r.store.Webhooks().Get(ctx, id, "")
	if errors.Is(err, webhooks.ErrNotFound) || err == nil && (record.State.Ended() || record.Cycle != known.run) {
		delete(r.webhooks.suspects, id)
		return nil
	}
	if err != nil {
		return err
	}
	made, err := r.messages.ofWebhook(r.store.Keys(), record)
	if err != nil {
		return err
	}
	q := r.queueOf(tasks.Priority(envelope.WebhookQueueName), record.Shard)
	word, place, err := r.restore(ctx, q, made.id, "write", made, "")
	if err != nil {
		return err
	}
	delete(r.webhooks.suspects, id)
	switch {
	case place == "archived":
		r.tell(q, made.id, "died", "gave up a webhook whose task asynq has archived")
		return r.store.Webhooks().Die(ctx, record, reasonArchived)
	case word == "enqueued", word == "written":
		r.tell(q, made.id, "enqueued", "enqueued the task of a pending webhook that had none; it stands in "+place)
	}
	return nil
}

// currentWebhook makes a task of the webhooks' queue anew when it is that of a pending webhook's current cycle.
func (r *Reconciler) currentWebhook(ctx context.Context, q *queue, id string, cycle int) (made task, open bool, err error) {
	record, err := r.store.Webhooks().Get(ctx, id, "")
	switch {
	case errors.Is(err, webhooks.ErrNotFound):
		return task{}, false, nil
	case err != nil:
		return task{}, false, err
	case record.State.Ended(), record.Cycle != cycle, record.Shard != q.of.Shard:
		return task{}, false, nil
	}
	made, err = r.messages.ofWebhook(r.store.Keys(), record)
	return made, err == nil, err
}
