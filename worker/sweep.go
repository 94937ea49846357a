package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// mostSwept is how many expired holds a worker looks at with one heartbeat.
	mostSwept = 100
	// lateReport is how long after its call's deadline a living worker may still report what it cost, as after an outage
	// of Redis.
	lateReport = 10 * time.Minute
)

// sweepHolds looks at holds that have expired: their workers are gone, or late. What a call may have cost is in the
// ledger of its job. All workers do this at once, and each hold is settled once.
func (w *Worker) sweepHolds() {
	ctx, cancel := context.WithTimeout(w.writable, heartbeatInterval)
	defer cancel()
	current := w.plans.use()
	defer w.plans.leave(current)
	holds, err := current.budget.Expired(ctx, mostSwept)
	for _, hold := range holds {
		settlement, over, unread := w.leaked(ctx, hold)
		if unread == nil && over {
			var settled bool
			if settled, unread = current.budget.Settle(settlement); settled {
				w.log.Info().Str("job", hold.Job).Bool("maybe_billed", settlement.Call != nil && settlement.Call.MaybeBilled).
					Msg("a hold that nobody settled was taken out of the budget")
			}
		}
		err = errors.Join(err, unread)
	}
	if err != nil && w.writable.Err() == nil {
		w.log.Warn().Err(err).Msg("expired holds of the budget could not be looked at; the next heartbeat does")
	}
}

// leaked says how an expired hold is to be settled, and whether it is time to. A hold whose attempt has no intent in the
// ledger was never sent: its worker looks at the time before it sends. One that may have been sent costs what it costs at
// worst, unless its end says what it cost.
func (w *Worker) leaked(ctx context.Context, hold gate.Hold) (settlement gate.Settlement, over bool, err error) {
	settlement = gate.Settlement{Hold: hold}
	record, err := w.store.Get(ctx, hold.Job)
	switch {
	case errors.Is(err, jobstore.ErrNotFound):
		settlement.Call = &gate.CallCost{Nanos: hold.Amount, MaybeBilled: true}
		return settlement, true, nil
	case err != nil && !errors.Is(err, jobstore.ErrUnreadable): // the ledger can be read in any case
		return settlement, false, err
	}
	delivery, _, _ := strings.Cut(hold.Token, ".")
	at := slices.IndexFunc(record.Attempts, func(a tasks.Attempt) bool {
		return a.Delivery == delivery && numbered(a.Delivery, a.Hold) == hold.Token
	})
	if at < 0 {
		return settlement, true, nil
	}
	attempt := record.Attempts[at]
	if attempt.Class == tasks.ClassDeferred {
		return settlement, true, nil // it was given up before it was sent
	}
	if !attempt.Ended && time.Since(attempt.CallDeadline) < lateReport {
		if alive, err := w.store.WorkerAlive(ctx, attempt.Worker); err != nil || alive {
			return settlement, false, err
		}
	}
	call := &gate.CallCost{TaskType: record.TaskType, Model: attempt.Model, Endpoint: attempt.Endpoint, Tenant: record.Tenant}
	switch {
	case attempt.Usage != nil:
		call.Usage, call.Nanos = *attempt.Usage, gate.Nanos(attempt.CostUSD)
	case attempt.MaybeBilled || !attempt.Ended:
		call.MaybeBilled, call.Nanos = true, hold.Amount
		settlement.Guess = true // its worker may only be slow
	}
	settlement.Call = call
	return settlement, true, nil
}
