package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// stuckAfter is far longer than a round of the heartbeat takes, whatever Redis does: its steps are bounded.
const stuckAfter = 2 * time.Minute

// pulse is what says whether a Worker works. The zero value is one that has not started.
type pulse struct {
	// takes tells that the queues are served.
	takes atomic.Bool
	last  atomic.Pointer[time.Time]
}

func (p *pulse) beat() {
	now := time.Now()
	p.last.Store(&now)
}

// Healthy says why the process should be started anew: what keeps the Worker alive stands still. That Redis is away is
// no reason, and neither is a Worker that is ending.
func (w *Worker) Healthy() error {
	last := w.pulse.last.Load()
	still := time.Duration(0)
	if last != nil {
		still = time.Since(*last)
	}
	if still <= stuckAfter || w.writable.Err() != nil {
		return nil //nolint:nilerr // one that is ending has no heartbeat
	}
	return fmt.Errorf("the worker's heartbeat has stood still for %s", still.Round(time.Second))
}

// Ready says why the Worker takes no jobs at the moment: it has not started yet, it is ending, or Redis does not answer.
// A queue that is paused is none.
func (w *Worker) Ready(ctx context.Context) error {
	switch {
	case w.draining():
		return errors.New("the worker is ending")
	case !w.pulse.takes.Load():
		return errors.New("the worker is starting")
	}
	return w.redis.Ping(ctx).Err()
}
