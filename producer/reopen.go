package producer

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"
)

// reopensAtOnce is how many jobs of ReopenMany are on their way at a time.
const reopensAtOnce = 16

// Reopened is what ReopenMany did.
type Reopened struct {
	// Reopened are run again. Skipped were not, since somebody else was faster or they cannot be.
	Reopened int `json:"retried"`
	Skipped  int `json:"skipped"`
	// More tells that there are others which the filter means.
	More bool `json:"more"`
}

// ReopenMany runs jobs again that a filter means, as ReopenRun does, up to a limit. Whoever does so at the same time, each
// job is run once. With an error some may have been reopened.
func (c *Client) ReopenMany(ctx context.Context, filter Filter, limit int) (Reopened, error) {
	var done Reopened
	for cursor := ""; ; {
		page, err := c.List(ctx, filter, cursor, min(limit-done.Reopened-done.Skipped, MaxListLimit))
		if err != nil {
			return done, err
		}
		if err := c.reopenPage(ctx, page.Jobs, &done); err != nil {
			return done, err
		}
		if cursor = page.Next; cursor == "" {
			return done, nil
		}
		if done.Reopened+done.Skipped >= limit {
			done.More = true
			return done, nil
		}
	}
}

func (c *Client) reopenPage(ctx context.Context, rows []Row, done *Reopened) error {
	var mutex sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(reopensAtOnce)
	for _, row := range rows {
		group.Go(func() error {
			_, err := c.ReopenRun(ctx, row.ID, row.Run)
			mutex.Lock()
			defer mutex.Unlock()
			switch {
			case err == nil:
				done.Reopened++
			case Overtaken(err), errors.Is(err, ErrUnreadable), errors.Is(err, ErrRefused):
				done.Skipped++
			default:
				return err
			}
			return nil
		})
	}
	return group.Wait()
}

// Overtaken tells of an error of a change to a job from a list that somebody else was faster: the job has ended otherwise, was
// run again, or is gone.
func Overtaken(err error) bool {
	return errors.Is(err, ErrStaleRun) || errors.Is(err, ErrNotEnded) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrSucceeded)
}
