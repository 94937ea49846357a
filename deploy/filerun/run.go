package filerun

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// lookEvery is how often it is looked which members have ended.
const lookEvery = 300 * time.Millisecond

// Config says what is run. Every field is required but where it says otherwise.
type Config struct {
	Client  *producer.Client
	Catalog *catalog.Catalog
	Journal *Journal
	Input   batchio.Config
	// Out is where the answers go, Errors where all goes that has not succeeded.
	Out, Errors string
	Style       batchio.Style
	Tenant      string
	// Webhooks are told of the end of each batch.
	Webhooks []tasks.Webhook
	// MaxCostUSD is what all calls of the run may cost, those of earlier runs of the same files included. 0 is no limit.
	MaxCostUSD float64
	// RetryFailed has the lines run again that have failed before.
	RetryFailed bool
	// Watch, which may be nil, is told how the run stands, some times a second and at its end.
	Watch func(Progress)
}

// Progress is how a run stands.
type Progress struct {
	// Batch is that of the lines that are new.
	Batch string
	// Lines are all of the input; Refused cannot be jobs; Kept have the answers of earlier runs; Enqueued are those that the
	// deployment has been given by this process.
	Lines, Refused, Kept, Enqueued int
	// Succeeded and Failed include those of earlier runs.
	Succeeded, Failed int
	// SpentUSD is what the lines have cost, EarlierUSD its part that was spent before this process began.
	SpentUSD, EarlierUSD float64
	// Fed tells that nothing is left to be enqueued.
	Fed bool
	// Held tells that no line is enqueued at the moment, because it could pass MaxCostUSD.
	Held bool
	// Away is why Redis does not answer; nil when it does.
	Away error
}

// Ended is how many lines have ended.
func (p Progress) Ended() int { return p.Succeeded + p.Failed }

// Report is what came of a run.
type Report struct {
	Batches   []string `json:"batches"`
	Lines     int      `json:"lines"`
	Succeeded int      `json:"succeeded"`
	Failed    int      `json:"failed"`
	Refused   int      `json:"refused"`
	// Kept have the answers of earlier runs, for which nothing was paid now.
	Kept int `json:"kept"`
	// CostUSD is what the lines cost over all runs, PaidUSD what this one paid.
	CostUSD float64 `json:"cost_usd"`
	PaidUSD float64 `json:"paid_usd"`
	Output  string  `json:"output"`
	// Errors is where all stands that has not succeeded; empty where nothing does.
	Errors  string  `json:"errors,omitempty"`
	Seconds float64 `json:"seconds"`
}

// MaxCostError says that a run ended before its lines, because a further one could have passed MaxCostUSD.
type MaxCostError struct {
	Left     int
	SpentUSD float64
	MaxUSD   float64
}

// Error implements error.
func (e *MaxCostError) Error() string {
	return fmt.Sprintf("%d lines are left: the others have cost $%.6f, and one more call could pass the $%.6f of --max-cost; start it again with more to go on", e.Left, e.SpentUSD, e.MaxUSD)
}

var errInputChanged = errors.New("the input has changed while it was read; start the same command again")

// run is one process's.
type run struct {
	config Config
	// stands are the batches of the journal that Redis has, by their places, and states how their members stood.
	stands map[int32]batches.Batch
	states map[int32][]batches.State
	plan   *planned
	began  time.Time

	mu       sync.Mutex
	now      Progress
	pending  map[int32]map[int32]int // by batch and number: entries without an answer
	left     int                     // how many these are
	closed   map[int]bool            // of these, those that have ended, and are not to be handed over
	enqueued map[int]float64         // of these, those that were handed over, and what they may cost
	outUSD   float64                 // the sum of that
	stopped  bool                    // by MaxCostUSD
	fed      bool                    // nothing more is to be enqueued
	ended    chan struct{}           // poked when members have ended
}

// Run does a run, and returns once everything is written. When the context ends before, the batch goes on in its
// deployment, and the same Config takes it up again.
func Run(ctx context.Context, config Config) (Report, error) {
	r := &run{
		config: config, stands: map[int32]batches.Batch{}, states: map[int32][]batches.State{}, began: time.Now(),
		pending: map[int32]map[int32]int{}, closed: map[int]bool{}, enqueued: map[int]float64{}, ended: make(chan struct{}, 1),
	}
	for _, step := range []func(context.Context) error{r.find, r.read, r.open, r.dropOthers, r.work} {
		if err := step(ctx); err != nil {
			return r.report(), err
		}
	}
	report := r.report()
	var err error
	if report.Errors, err = r.write(); err != nil {
		return report, err
	}
	return report, r.release(ctx)
}

// find looks which batches of earlier runs there are.
func (r *run) find(ctx context.Context) error {
	for at, id := range r.config.Journal.batches {
		batch, err := r.config.Client.Batches().Get(ctx, id, r.config.Tenant)
		switch {
		case errors.Is(err, batches.ErrNotFound):
			continue
		case err != nil:
			return err
		}
		if r.config.RetryFailed {
			if _, err := r.config.Client.RetryBatch(ctx, id, r.config.Tenant); err != nil {
				return err
			}
			if batch, err = r.config.Client.Batches().Get(ctx, id, r.config.Tenant); err != nil {
				return err
			}
		}
		r.stands[int32(at)] = batch
		if r.states[int32(at)], err = r.config.Client.Batches().Members(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// state is how a member stood when this run began.
func (r *run) state(e *entry) batches.State {
	if states := r.states[e.batch]; int(e.number) < len(states) {
		return states[e.number]
	}
	return batches.Unreported
}

// usable tells which members of earlier runs lines may have: those that are answered, or are to be.
func (r *run) usable(e *entry) bool {
	_, stands := r.stands[e.batch]
	switch {
	case e.status == statusDropped:
		return false
	case !e.answered():
		return stands
	case e.status == tasks.StatusSucceeded || !r.config.RetryFailed:
		return true
	}
	return stands && !r.state(e).Ended() // what could not be opened again gets another member
}

// takesMore tells that a batch takes further members.
func takesMore(b batches.Batch) bool {
	switch b.Status {
	case batches.StatusValidating, batches.StatusInProgress:
		return time.Until(b.Deadline) > 0
	case batches.StatusCompleted:
		return true
	case batches.StatusFailed, batches.StatusFinalizing, batches.StatusExpired, batches.StatusCancelling, batches.StatusCancelled:
	}
	return false
}

// beginBatch has new lines be members of a batch that takes them.
func (r *run) beginBatch() error {
	j := r.config.Journal
	if last := int32(len(j.batches) - 1); last >= 0 && takesMore(r.stands[last]) {
		return nil
	}
	return j.begin(batches.NewID())
}

// read plans the input.
func (r *run) read(context.Context) error {
	j := r.config.Journal
	chains := j.chain(r.usable)
	plan, err := j.planInput(r.items(), chains, r.beginBatch)
	if err != nil {
		return err
	}
	r.plan = plan
	r.now.Lines, r.now.Refused = len(plan.entries)+plan.refused, plan.refused
	if len(j.batches) > 0 {
		r.now.Batch = j.batches[len(j.batches)-1]
	}
	if len(plan.entries) == 0 && plan.refused == 0 {
		return fmt.Errorf("%s has no lines", r.config.Input.Path)
	}
	return nil
}

// items are those of the input, of the run's tenant.
func (r *run) items() iter.Seq2[batchio.Item, error] {
	return OfTenant(batchio.Read(r.config.Input), r.config.Tenant)
}

// OfTenant gives items their tenant. One that names another is refused: a batch has one who pays.
func OfTenant(items iter.Seq2[batchio.Item, error], tenant string) iter.Seq2[batchio.Item, error] {
	return func(yield func(batchio.Item, error) bool) {
		for item, err := range items {
			if err == nil && item.Problem == nil {
				if item.Job.Tenant != "" && item.Job.Tenant != tenant {
					item.Problem = fmt.Errorf("tenant: it is of the tenant %s, and the batch of %s; give --tenant %s, or run it by itself", item.Job.Tenant, tenant, item.Job.Tenant)
				}
				item.Job.Tenant = tenant
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// open makes sure that the batches of all lines are there, and finds which members have no answer yet.
func (r *run) open(ctx context.Context) error {
	j := r.config.Journal
	opened := map[int32]bool{}
	for _, at := range r.plan.entries {
		e := j.entry(at)
		if !e.answered() && !opened[e.batch] {
			opened[e.batch] = true
			if err := r.openBatch(ctx, e.batch); err != nil {
				return err
			}
		}
		r.enter(at, e)
	}
	for at := range j.entries {
		r.now.EarlierUSD += j.entries[at].cost
	}
	r.now.SpentUSD = r.now.EarlierUSD
	return nil
}

// openBatch makes sure that a batch is there, and has as many members as were planned.
func (r *run) openBatch(ctx context.Context, at int32) error {
	id, total, store := r.config.Journal.batches[at], int(r.config.Journal.numbers[at]), r.config.Client.Batches()
	batch, stands := r.stands[at]
	if !stands {
		if _, err := store.Create(ctx, batches.Batch{
			ID: id, Tenant: r.config.Tenant, Name: r.config.Input.Path, Kind: batches.KindRun,
			Deadline: time.Now().Add(r.config.Catalog.Defaults.MaxAge), Retention: r.config.Catalog.Defaults.Retention,
			Webhooks: r.config.Webhooks, Trace: tracing.Of(ctx),
		}); err != nil {
			return err
		}
	}
	if !stands || takesMore(batch) && batch.Total < total {
		if err := store.Begin(ctx, id, total); err != nil {
			return err
		}
		var err error
		if batch, err = store.Get(ctx, id, r.config.Tenant); err != nil {
			return err
		}
	}
	r.stands[at] = batch
	return nil
}

// enter takes a line's member in: with its answer, or as one to be awaited.
func (r *run) enter(at int, e entry) {
	state := r.state(&e)
	_, stands := r.stands[e.batch]
	reopened := e.answered() && e.status != tasks.StatusSucceeded && stands && state != stateOf[e.status]
	if e.answered() && !reopened {
		r.now.Kept++
		r.count(e.status)
		return
	}
	if r.pending[e.batch] == nil {
		r.pending[e.batch] = map[int32]int{}
	}
	r.pending[e.batch][e.number] = at
	r.left++
	switch {
	case state.Ended() || reopened:
		r.closed[at] = true
	case e.limitUSD > 0: // it was handed over, or was about to be
		r.enqueued[at] = e.limitUSD
		r.outUSD += e.limitUSD
	}
}

// stateOf are the states of members by how their jobs have ended. The other statuses are no ends.
//
//exhaustive:ignore
var stateOf = map[tasks.Status]batches.State{
	tasks.StatusSucceeded: batches.Succeeded, tasks.StatusFailed: batches.Failed,
	tasks.StatusCancelled: batches.Cancelled, tasks.StatusExpired: batches.Expired,
}

func (r *run) count(status tasks.Status) {
	if status == tasks.StatusSucceeded {
		r.now.Succeeded++
	} else {
		r.now.Failed++
	}
}

// statusDropped is that of a member whose line is no longer there.
const statusDropped tasks.Status = "dropped"

// dropOthers cancels the jobs of lines that are no longer there, so that nobody pays for them.
func (r *run) dropOthers(ctx context.Context) error {
	wanted := make(map[int]bool, len(r.plan.entries))
	for _, at := range r.plan.entries {
		wanted[at] = true
	}
	dropped := map[int]tasks.Result{}
	for at := range r.config.Journal.entries {
		e := r.config.Journal.entry(at)
		batch, stands := r.stands[e.batch]
		if wanted[at] || e.answered() || !stands || batch.Status.Ended() || r.state(&e).Ended() {
			continue
		}
		id := r.config.Journal.id(at)
		_, err := r.config.Client.Cancel(ctx, id)
		if errors.Is(err, producer.ErrNotFound) { // it was planned, and never enqueued
			err = r.config.Client.Batches().Report(ctx, batch.ID, batches.Report{Number: int(e.number), State: batches.Cancelled})
		}
		if err != nil {
			return fmt.Errorf("cancel the job of a line that is gone: %w", err)
		}
		dropped[at] = tasks.Result{ID: id, Status: statusDropped}
	}
	if len(dropped) == 0 {
		return nil
	}
	return r.config.Journal.ended(dropped)
}

// report is what has come of it so far.
func (r *run) report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := Report{
		Batches: r.config.Journal.batches, Lines: r.now.Lines, Succeeded: r.now.Succeeded, Failed: r.now.Failed, Refused: r.now.Refused,
		Kept: r.now.Kept, CostUSD: r.now.SpentUSD, PaidUSD: r.now.SpentUSD - r.now.EarlierUSD, Output: r.config.Out,
		Seconds: time.Since(r.began).Seconds(),
	}
	return report
}
