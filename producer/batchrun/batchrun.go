// Package batchrun works on OpenAI's batches: it checks an input file, enqueues a job for each of its lines, and when they
// have ended writes what came of them into files. Every producer has a Runner; a batch is worked on by one of them at a
// time, which holds a lease.
//
// A batch goes on wherever it was when its Runner dies, at another one and from what is written down: its status, and how
// many of its lines were enqueued. Each step may be done twice: members are enqueued under the same ids, and files written
// under ids that were noted before.
package batchrun

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/metrics"
)

const (
	defaultLook   = time.Second
	defaultAtOnce = 4
	// leaseFor is how long a batch stands still after its Runner has died.
	leaseFor  = 30 * time.Second
	renewEach = 10 * time.Second
	// leaveWithin bounds what is done at a Runner's end.
	leaveWithin = 2 * time.Second
	sweepEach   = time.Minute
	// longestRest is how long a batch is left alone at most that could not be worked on.
	longestRest = time.Minute
)

// Config configures a Runner. A zero field means its documented default.
type Config struct {
	// Client enqueues and reads jobs, Files keeps files. Required.
	Client *producer.Client
	Files  *files.Store
	// Look is how often the Runner looks for something to do. Defaults to 1s.
	Look time.Duration
	// AtOnce is how many batches it works on at a time. Those that only wait for their jobs do not count. Defaults to 4.
	AtOnce int
	// Log takes a line for each batch that begins, ends or cannot be worked on. The zero value discards them.
	Log zerolog.Logger
}

// Runner works on batches until it is stopped.
type Runner struct {
	config  Config
	store   *batches.Store
	owner   string
	slots   chan struct{}
	intake  *metrics.Intake
	working sync.Map // ids of batches that are worked on
	rests   sync.Map // ids of batches that could not be worked on: *rest
}

// rest is how long a batch is left alone.
type rest struct {
	until time.Time
	last  time.Duration
}

// New returns a Runner. It does nothing yet: see Run.
func New(config Config) (*Runner, error) {
	if config.Client == nil || config.Files == nil {
		return nil, errors.New("batches: Config.Client or Config.Files is missing")
	}
	if config.Look == 0 {
		config.Look = defaultLook
	}
	if config.AtOnce == 0 {
		config.AtOnce = defaultAtOnce
	}
	return &Runner{
		config: config, store: config.Client.Batches(), owner: uuid.NewString(), slots: make(chan struct{}, config.AtOnce),
		intake: metrics.NewIntake(config.Client.Registerer(), metrics.WayBatch),
	}, nil
}

// Run works on batches until the context ends, and returns when nothing of it runs any more. A batch that it had goes on
// at another Runner, or with the next Run.
func (r *Runner) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	look, sweep := time.NewTicker(r.config.Look), time.NewTicker(sweepEach)
	defer look.Stop()
	defer sweep.Stop()
	for {
		r.look(ctx, &group)
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case <-sweep.C:
			if _, err := r.config.Files.Sweep(ctx); err != nil && ctx.Err() == nil {
				r.config.Log.Warn().Err(err).Msg("files that have expired could not be deleted; it is tried again")
			}
		}
	}
}

// look begins to work on what there is to do.
func (r *Runner) look(ctx context.Context, group *sync.WaitGroup) {
	open, err := r.store.Open(ctx)
	if err != nil {
		return // Redis is away: the next look finds what there is
	}
	for _, id := range open {
		if _, busy := r.working.Load(id); busy || r.resting(id) {
			continue
		}
		batch, err := r.store.Get(ctx, id, "")
		if err != nil || r.workOf(batch) == nil {
			continue
		}
		select {
		case r.slots <- struct{}{}:
		default:
			return
		}
		r.working.Store(id, true)
		group.Go(func() {
			defer func() {
				r.working.Delete(id)
				<-r.slots
			}()
			r.rested(id, r.work(ctx, id))
		})
	}
}

func (r *Runner) resting(id string) bool {
	found, resting := r.rests.Load(id)
	return resting && time.Now().Before(found.(*rest).until)
}

// rested leaves a batch alone for a while that could not be worked on, longer each time.
func (r *Runner) rested(id string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		r.rests.Delete(id)
		return
	}
	next := &rest{last: time.Second}
	if before, found := r.rests.Load(id); found {
		next.last = min(2*before.(*rest).last, longestRest)
	}
	next.until = time.Now().Add(next.last)
	r.rests.Store(id, next)
	r.config.Log.Warn().Str("batch", id).Err(err).Str("again_in", next.last.String()).Msg("a batch could not be worked on")
}

// work is one step of a batch.
type work func(ctx context.Context, batch batches.Batch) error

// workOf is what there is to do for a batch as it stands; nil where it waits, or is none of ours.
func (r *Runner) workOf(batch batches.Batch) work {
	if batch.Kind != batches.KindFile {
		return nil
	}
	switch batch.Status {
	case batches.StatusValidating:
		return r.validate
	case batches.StatusInProgress:
		if enqueuedOf(batch) < batch.Total {
			return r.enqueue
		}
	case batches.StatusCancelling:
		if batch.Counts.Ended() < batch.Total {
			return r.cancel
		}
		return r.finish
	case batches.StatusFinalizing:
		return r.finish
	case batches.StatusFailed, batches.StatusCompleted, batches.StatusExpired, batches.StatusCancelled:
	}
	return nil
}

// work does what there is to do for a batch, step by step, for as long as the lease is held.
func (r *Runner) work(ctx context.Context, id string) error {
	taken, err := r.store.Lease(ctx, id, r.owner, leaseFor)
	if err != nil || !taken {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go r.renew(ctx, cancel, id, renewed)
	defer func() {
		cancel()
		<-renewed
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
		defer cancel()
		_ = r.store.Leave(ctx, id, r.owner) // it expires
	}()
	for {
		// As it stands now that nobody else works on it.
		batch, err := r.store.Get(ctx, id, "")
		if err != nil {
			return err
		}
		next := r.workOf(batch)
		if next == nil {
			return nil
		}
		if err := next(ctx, batch); err != nil {
			return fmt.Errorf("batch %s, %s: %w", id, batch.Status, err)
		}
		if batch.Status == batches.StatusCancelling && batch.Counts.Ended() < batch.Total {
			return nil // jobs that run are ended by their workers; the next look sees it
		}
	}
}

// renew keeps the lease, and ends the work when it cannot.
func (r *Runner) renew(ctx context.Context, lost context.CancelFunc, id string, ended chan<- struct{}) {
	defer close(ended)
	tick := time.NewTicker(renewEach)
	defer tick.Stop()
	held := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		kept, err := r.store.Lease(ctx, id, r.owner, leaseFor)
		switch {
		case err == nil && kept:
			held = asked
		case err == nil, time.Since(held) > leaseFor-renewEach:
			lost()
			return
		}
	}
}
