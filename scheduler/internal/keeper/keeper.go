// Package keeper has the counts of batches follow what became of their members, whatever died in between, and their
// ends told.
//
// A member's end and its batch lie in different slots of Redis, so that a process may die between the two. The keeper
// looks at batches whose counts stand still, and asks the records.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// lookEvery is how often the open batches are looked at.
	lookEvery = 20 * time.Second
	// stillFor is how long a batch's counts stand still before its members' records are asked.
	stillFor = time.Minute
	// untold is how long the end of a batch may go untold: whoever ended it tells of it at once.
	untold = 30 * time.Second
	// asked is how many records are asked at a time.
	asked = 500
	// stepTimeout bounds what is done for one batch, or so many of its members.
	stepTimeout = 10 * time.Second
)

// Term is the leader's.
type Term interface {
	// Err is not nil once this process leads no more.
	Err() error
}

// Keeper keeps the batches of one deployment. It is used by one goroutine.
type Keeper struct {
	store *jobstore.Store
	term  Term
	log   zerolog.Logger
	seen  map[string]look
}

// look is what was seen of a batch.
type look struct {
	ended int
	since time.Time
}

// New returns a Keeper that has seen nothing yet.
func New(store *jobstore.Store, term Term, log zerolog.Logger) *Keeper {
	return &Keeper{store: store, term: term, log: log, seen: map[string]look{}}
}

// Run keeps them until the context ends.
func (k *Keeper) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := k.round(ctx); err != nil && ctx.Err() == nil && k.term.Err() == nil {
			k.log.Warn().Err(err).Msg("cannot look after the batches at the moment; trying on")
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (k *Keeper) round(ctx context.Context) error {
	var open []string
	err := k.bounded(ctx, func(ctx context.Context) (err error) {
		if err = k.store.Batches().Overlook(ctx); err != nil {
			return err
		}
		open, err = k.store.Batches().Open(ctx)
		return err
	})
	if err != nil {
		return err
	}
	seen := make(map[string]look, len(open))
	var problems []error
	for _, id := range open {
		known, found := k.seen[id]
		batch, err := k.visit(ctx, id, known, found)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if !found || known.ended != batch.Counts.Ended() {
			known = look{ended: batch.Counts.Ended(), since: time.Now()}
		}
		seen[id] = known
	}
	k.seen = seen
	return errors.Join(problems...)
}

// bounded runs one step, unless this process leads no more.
func (k *Keeper) bounded(ctx context.Context, step func(context.Context) error) error {
	if err := k.term.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return step(ctx)
}

// visit does what is to be done for one batch.
func (k *Keeper) visit(ctx context.Context, id string, known look, found bool) (batches.Batch, error) {
	var batch batches.Batch
	err := k.bounded(ctx, func(ctx context.Context) (err error) {
		if batch, err = k.store.Batches().Get(ctx, id, ""); errors.Is(err, batches.ErrNotFound) {
			return nil // it is overlooked in time
		}
		if err == nil && batch.Status.Ended() && time.Since(batch.EndedAt()) > untold {
			return k.store.Batches().Tell(ctx, id)
		}
		return err
	})
	late := !batch.Deadline.IsZero() && time.Since(batch.Deadline) > stillFor
	switch {
	case err != nil, batch.Status.Ended(), batch.Status == "":
		return batch, err
	case batch.Status == batches.StatusValidating:
		if late && batch.Kind == batches.KindRun { // whoever was to begin it is gone; a file's is taken over
			_, err = k.store.Batches().Cancel(ctx, id, "")
		}
		return batch, err
	case batch.Counts.Ended() >= batch.Total:
		return batch, nil
	case batch.Status == batches.StatusCancelling && batch.Kind == batches.KindRun:
		return batch, k.ask(ctx, batch, late) // nobody else may be there to cancel its members
	case found && known.ended == batch.Counts.Ended() && time.Since(known.since) >= stillFor:
		return batch, k.ask(ctx, batch, late)
	}
	return batch, nil
}

// ask asks the records of the members that have not ended, as far as was reported.
func (k *Keeper) ask(ctx context.Context, batch batches.Batch, late bool) error {
	var states []batches.State
	err := k.bounded(ctx, func(ctx context.Context) (err error) {
		states, err = k.store.Batches().Members(ctx, batch.ID)
		return err
	})
	if err != nil {
		return err
	}
	var numbers []int
	for number, state := range states {
		if !state.Ended() {
			numbers = append(numbers, number)
		}
	}
	for len(numbers) > 0 {
		some := numbers[:min(asked, len(numbers))]
		numbers = numbers[len(some):]
		if err := k.bounded(ctx, func(ctx context.Context) error { return k.askSome(ctx, batch, some, late) }); err != nil {
			return fmt.Errorf("look after batch %s: %w", batch.ID, err)
		}
	}
	return nil
}

func (k *Keeper) askSome(ctx context.Context, batch batches.Batch, numbers []int, late bool) error {
	ids := make([]string, len(numbers))
	for i, number := range numbers {
		ids[i] = batches.MemberID(batch.ID, number)
	}
	glances, err := k.store.Survey(ctx, ids)
	if err != nil {
		return err
	}
	var reports []batches.Report
	var unread []error
	for i, glance := range glances {
		switch {
		case glance.Status == "" && batch.Status == batches.StatusCancelling:
			reports = append(reports, batches.Report{Number: numbers[i], State: batches.Cancelled})
		case glance.Status == "" && late:
			reports = append(reports, batches.Report{Number: numbers[i], State: batches.Expired})
		case glance.Status == "":
		case glance.Status.Ended():
			record, err := k.store.Get(ctx, ids[i])
			if errors.Is(err, jobstore.ErrUnreadable) {
				unread = append(unread, err) // the others need not wait for it
				continue
			}
			if err != nil {
				return err
			}
			k.log.Info().Str("job", ids[i]).Msg("the job's batch had not learnt of its end")
			if err := k.store.Report(ctx, record); err != nil {
				return err
			}
		case batch.Status == batches.StatusCancelling:
			if _, err := k.store.Cancel(ctx, ids[i], ""); err != nil && !errors.Is(err, jobstore.ErrNotFound) {
				return err
			}
		}
	}
	return errors.Join(append(unread, k.store.Batches().ReportMany(ctx, batch.ID, reports))...)
}
