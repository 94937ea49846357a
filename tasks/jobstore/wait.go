package jobstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// reread is how often a waiting reader looks without having been told while the connection that would tell it has not
	// been heard of: Pub/Sub loses messages.
	reread = 30 * time.Second
	// rereadAnyway is the same while the connection is heard of.
	rereadAnyway = 5 * time.Minute
	// rereadAfterError is the same after a read that failed.
	rereadAfterError = time.Second
	// considerEvery is how often a waiting reader considers whether to look: that sends nothing.
	considerEvery = 10 * time.Second
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
		pause := s.pauseUntilDue
		record, err := s.Get(ctx, id)
		switch {
		case err == nil && record.Status.Ended():
			return record, nil
		case errors.Is(err, ErrNotFound), first && err != nil:
			return nil, err
		case err != nil:
			pause = s.pauseAfterError
		}
		if err := pause(ctx, poke); err != nil {
			return nil, fmt.Errorf("wait for job %s: %w", id, err)
		}
	}
}

// pauseUntilDue lasts until the poke, or until the job is to be read without one. As long as the connection is heard
// of, thousands of waits send nothing.
func (s *Store) pauseUntilDue(ctx context.Context, poke <-chan struct{}) error {
	read := time.Now()
	for {
		poked, err := s.pause(ctx, poke, considerEvery)
		if err != nil || poked {
			return err
		}
		if since := time.Since(read); since >= rereadAnyway || (since >= reread && s.hub.doubtful()) {
			return nil
		}
	}
}

func (s *Store) pauseAfterError(ctx context.Context, poke <-chan struct{}) error {
	_, err := s.pause(ctx, poke, rereadAfterError)
	return err
}

// pause lasts until the poke, or for the given time.
func (s *Store) pause(ctx context.Context, poke <-chan struct{}, atMost time.Duration) (poked bool, err error) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-poke:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-s.hub.closing:
		return false, ErrClosed
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
