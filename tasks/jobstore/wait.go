package jobstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// reread is how often a waiting reader looks without having been told: Pub/Sub loses messages.
	reread = 30 * time.Second
	// rereadAfterError is the same after a read that failed.
	rereadAfterError = time.Second
)

// Wait returns the job's record once it has ended: at once if it has, otherwise as soon as the end is published. It
// lasts until ctx ends, over lost connections too; only an error of the first read is returned, and ErrNotFound.
// All waits of a Store share one connection.
func (s *Store) Wait(ctx context.Context, id string) (*Record, error) {
	// Subscribe first: an end between the read and the subscription would be missed.
	poke, leave, err := s.hub.join(s.keys.JobDone(id))
	if err != nil {
		return nil, fmt.Errorf("wait for job %s: %w", id, err)
	}
	defer leave()
	for first := true; ; first = false {
		next := reread
		record, err := s.Get(ctx, id)
		switch {
		case err == nil && record.Status.Ended():
			return record, nil
		case errors.Is(err, ErrNotFound), first && err != nil:
			return nil, err
		case err != nil:
			next = rereadAfterError
		}
		if err := s.pause(ctx, poke, next); err != nil {
			return nil, fmt.Errorf("wait for job %s: %w", id, err)
		}
	}
}

// pause lasts until the poke, or for the given time.
func (s *Store) pause(ctx context.Context, poke <-chan struct{}, atMost time.Duration) error {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-poke:
		return nil
	case <-timer.C:
		return nil
	case <-s.hub.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
