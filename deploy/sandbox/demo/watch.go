package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
)

const (
	sampleEvery = 200 * time.Millisecond
	// rateWindow is how far back the jobs per second look.
	rateWindow = 5 * time.Second
	// sampleTimeout bounds reading the breakers.
	sampleTimeout = 5 * time.Second
)

// endpoint is one line of the display.
type endpoint struct {
	name, region string
	state        gate.EndpointState
}

// progress is how far the demonstration is.
type progress struct {
	elapsed                      time.Duration
	jobs, done, retrying, failed int
	perSecond                    float64
	spentUSD                     float64
	endpoints                    []endpoint
	// down tells that the first region fails by order of the scenario.
	down bool
}

// watch follows the demonstration: results as they come in, breakers and the simulator's counters by looking.
type watch struct {
	demo      *Demo
	endpoints []endpoint
	started   time.Time
	allDone   chan struct{} // closed once every job has ended

	mu     sync.Mutex
	now    progress
	recent []mark

	// answeredAtUp is how many calls the first region had answered when its outage was found over; -1 before.
	answeredAtUp int64
}

// mark is how many jobs had ended at a time.
type mark struct {
	at    time.Time
	ended int
}

func newWatch(d *Demo) *watch {
	w := &watch{demo: d, started: time.Now(), allDone: make(chan struct{}), answeredAtUp: -1}
	for _, e := range d.Sandbox.EndpointOrder() {
		w.endpoints = append(w.endpoints, endpoint{name: e.Name, region: e.Region, state: gate.EndpointState{State: gate.StateClosed}})
	}
	w.now = progress{jobs: len(d.jobs), endpoints: w.endpoints}
	w.recent = []mark{{at: w.started}}
	return w
}

// ended takes in a job's result.
func (w *watch) ended(result tasks.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if result.Status == tasks.StatusSucceeded {
		w.now.done++
	} else {
		w.now.failed++
	}
	w.now.spentUSD += result.CostUSD
	if w.now.done+w.now.failed == w.now.jobs {
		close(w.allDone)
	}
}

func (w *watch) done() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now.done
}

// run shows how things stand until the context ends, and once more then.
func (w *watch) run(ctx context.Context, display display) error {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	display.show(progress{jobs: len(w.demo.jobs), endpoints: w.endpoints})
	for last := false; !last; {
		select {
		case <-ticker.C:
		case <-w.allDone:
			last = true
		case <-ctx.Done():
			select {
			case <-w.allDone:
				last = true
			default:
				return nil // the display keeps what it shows
			}
		}
		looking := ctx
		if last {
			looking = context.WithoutCancel(ctx)
		}
		before, now, err := w.sample(looking)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, event := range events(before, now) {
			display.event(event)
		}
		display.show(now)
	}
	return nil
}

// sample looks at how things stand, and returns how they stood when it last did.
func (w *watch) sample(ctx context.Context) (before, now progress, err error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	states, err := w.demo.Sandbox.Endpoints(ctx)
	if err != nil {
		return before, now, fmt.Errorf("look at the breakers: %w", err)
	}
	counters := w.demo.Sandbox.Simulator.Counters()
	scenario := w.demo.scenario
	w.mu.Lock()
	defer w.mu.Unlock()
	before = w.now
	w.now.elapsed = time.Since(w.started)
	w.now.retrying = retrying(counters)
	w.now.endpoints = make([]endpoint, len(states))
	for i, state := range states {
		w.now.endpoints[i] = endpoint{name: w.endpoints[i].name, region: w.endpoints[i].region, state: state}
	}
	w.now.down = scenario.up > 0 && counters.JobsAnswered >= scenario.down && counters.JobsAnswered < scenario.up
	if w.answeredAtUp < 0 && scenario.up > 0 && counters.JobsAnswered >= scenario.up {
		w.answeredAtUp = counters.Regions[w.endpoints[0].name].Answered
	}
	w.now.perSecond = w.rate(time.Now())
	return before, w.now, nil
}

// retrying counts the jobs that have been called for more than once and have no answer yet.
func retrying(counters simulator.Counters) int {
	count := 0
	for _, job := range counters.Jobs {
		if job.Asked > 1 && job.Answered == 0 {
			count++
		}
	}
	return count
}

// rate is how many jobs a second have ended lately.
func (w *watch) rate(now time.Time) float64 {
	ended := w.now.done + w.now.failed
	w.recent = append(w.recent, mark{now, ended})
	for len(w.recent) > 2 && now.Sub(w.recent[1].at) >= rateWindow {
		w.recent = w.recent[1:]
	}
	first := w.recent[0]
	return float64(ended-first.ended) / max(now.Sub(first.at).Seconds(), 0.001)
}

// events says what has happened between two looks.
func events(before, now progress) []string {
	var list []string
	if now.down && !before.down {
		list = append(list, fmt.Sprintf("%s goes down: its answers are errors, resets and silence, in turn", now.endpoints[0].name))
	}
	if before.down && !now.down {
		list = append(list, fmt.Sprintf("%s is up again; its breaker does not know yet", now.endpoints[0].name))
	}
	for i, e := range now.endpoints {
		was, is := before.endpoints[i].state, e.state
		switch {
		case is.Trips > was.Trips:
			list = append(list, fmt.Sprintf("breaker of %s: open; jobs go to the next region at once", e.name))
		case is.Reopenings > was.Reopenings:
			list = append(list, fmt.Sprintf("breaker of %s: the probe failed, open again", e.name))
		case is.Recoveries > was.Recoveries:
			list = append(list, fmt.Sprintf("breaker of %s: the probe was answered, closed again", e.name))
		case is.Probes > was.Probes:
			list = append(list, fmt.Sprintf("breaker of %s: half-open, one job is the probe", e.name))
		}
	}
	return list
}
