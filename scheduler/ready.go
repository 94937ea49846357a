package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stuckAfter is far longer than a Scheduler that takes part goes without asking for the lease: what it waits for between
// two terms is bounded.
const stuckAfter = 2 * time.Minute

// Healthy says why the process should be started anew: it takes no part any more. That Redis is away is no reason, and
// neither is a Scheduler that is ending.
func (s *Scheduler) Healthy() error {
	asked := s.candidate.Asked()
	still := time.Duration(0)
	if !asked.IsZero() {
		still = time.Since(asked)
	}
	if still <= stuckAfter || s.running.Err() != nil {
		return nil //nolint:nilerr // one that is ending asks no more
	}
	return fmt.Errorf("the scheduler has not asked for the leader's lease for %s", still.Round(time.Second))
}

// Ready says why the Scheduler can neither lead nor stand by at the moment: it has not started yet, it is ending, or
// Redis does not answer.
func (s *Scheduler) Ready(ctx context.Context) error {
	switch {
	case s.running.Err() != nil:
		return errors.New("the scheduler is ending")
	case !s.started.Load():
		return errors.New("the scheduler is starting")
	}
	return s.redis.Ping(ctx).Err()
}
