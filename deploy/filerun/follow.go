package filerun

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// readTogether is how many answers are read, and written to the disk, at a time.
const readTogether = 64

// work hands lines over and takes their answers in, until all have one.
func (r *run) work(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.feed(ctx) })
	group.Go(func() error { return r.follow(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	if r.stopped && r.left > 0 {
		return &MaxCostError{Left: r.left, SpentUSD: r.now.SpentUSD, MaxUSD: r.config.MaxCostUSD}
	}
	return nil
}

// follow takes in the answers of members as they end. Where Redis does not answer it asks again.
func (r *run) follow(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, batches.ErrNotFound), errors.As(err, new(*fs.PathError)):
			return fmt.Errorf("%w; start the same command again: what was answered is kept", err)
		}
		r.mu.Lock()
		r.now.Away, r.now.Fed = err, r.fed
		now, done := r.now, r.fed && (r.left == 0 || r.stopped && len(r.enqueued) == 0)
		r.mu.Unlock()
		if r.config.Watch != nil {
			r.config.Watch(now)
		}
		if done {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look takes in the answers of the members that have ended.
func (r *run) look(ctx context.Context) error {
	for at, id := range r.config.Journal.batches {
		batch := int32(at)
		r.mu.Lock()
		waiting := len(r.pending[batch])
		r.mu.Unlock()
		if waiting == 0 {
			continue
		}
		states, err := r.config.Client.Batches().Members(ctx, id)
		if err == nil && len(states) == 0 {
			_, err = r.config.Client.Batches().Get(ctx, id, r.config.Tenant)
		}
		if err != nil {
			return err
		}
		ended, reported := []int(nil), map[int]batches.State{}
		r.mu.Lock()
		for number, entry := range r.pending[batch] {
			if int(number) < len(states) && states[number].Ended() {
				ended, reported[entry] = append(ended, entry), states[number]
			}
		}
		r.mu.Unlock()
		for len(ended) > 0 {
			count := min(len(ended), readTogether)
			if err := r.take(ctx, ended[:count], reported); err != nil {
				return err
			}
			ended = ended[count:]
		}
	}
	return nil
}

// take takes the answers of members that have ended into the journal.
func (r *run) take(ctx context.Context, entries []int, states map[int]batches.State) error {
	ids := make([]string, len(entries))
	for i, at := range entries {
		ids[i] = r.config.Journal.id(at)
	}
	read, err := r.config.Client.Results(ctx, ids)
	if err != nil {
		return err
	}
	results := map[int]tasks.Result{}
	for i, result := range read {
		if result.ID == "" && states[entries[i]] == batches.Cancelled {
			result = tasks.Result{ID: ids[i], Status: tasks.StatusCancelled, Error: &tasks.Failure{
				Class: tasks.ClassCancelled, Code: "cancelled", Message: "the batch was cancelled before the line was enqueued", Hint: "start the run again with --retry-failed",
			}}
		} else if result.ID == "" {
			result = tasks.Result{ID: ids[i], Status: tasks.StatusFailed, Error: &tasks.Failure{
				Class: tasks.ClassInternal, Code: "record_gone", Message: "the job has ended, and its record is gone", Hint: "start the run again with --retry-failed",
			}}
		}
		if result.Status.Ended() {
			results[entries[i]] = result
		}
	}
	if len(results) == 0 {
		return nil
	}
	before := map[int]float64{}
	for at := range results {
		before[at] = r.config.Journal.entry(at).cost
	}
	if err := r.config.Journal.ended(results); err != nil {
		return err
	}
	r.mu.Lock()
	for at, result := range results {
		e := r.config.Journal.entry(at)
		delete(r.pending[e.batch], e.number)
		r.left--
		r.outUSD -= r.enqueued[at]
		delete(r.enqueued, at)
		r.now.SpentUSD += result.CostUSD - before[at]
		r.count(result.Status)
	}
	r.mu.Unlock()
	r.poke()
	return nil
}

// write writes the outputs, and returns the path of that of the errors where there are any.
func (r *run) write() (errorsPath string, err error) {
	out, err := batchio.Create(r.config.Out, r.config.Style)
	if err != nil {
		return "", err
	}
	failed, err := batchio.CreateErrors(r.config.Errors, r.config.Style)
	if err != nil {
		return "", errors.Join(err, out.Abandon())
	}
	failures, err := r.writeLines(out, failed)
	if err != nil {
		return "", errors.Join(err, out.Abandon(), failed.Abandon())
	}
	if failures == 0 {
		err = failed.Abandon()
		if gone := os.Remove(r.config.Errors); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	} else {
		errorsPath, err = r.config.Errors, failed.Commit()
	}
	return errorsPath, errors.Join(err, out.Commit())
}

func (r *run) writeLines(out, failed *batchio.Output) (failures int, err error) {
	for line, err := range r.config.Journal.lines() {
		if err != nil {
			return failures, err
		}
		answer := batchio.Answer{Key: line.Key, File: line.File, Line: line.Line}
		if line.Entry == nil {
			answer.Result = tasks.Result{Status: batchio.StatusRefused, Error: &tasks.Failure{Class: tasks.ClassInvalid, Code: "invalid_line", Message: line.Problem}}
		} else if answer.Result, err = r.config.Journal.result(*line.Entry); err != nil {
			return failures, err
		}
		if answer.Result.Status == tasks.StatusSucceeded {
			err = out.Write(answer)
		} else {
			failures++
			err = failed.Write(answer)
		}
		if err != nil {
			return failures, err
		}
	}
	return failures, nil
}

// release lets the records of members expire: their answers stand in the journal and the output.
func (r *run) release(ctx context.Context) error {
	for at := range maps.Keys(r.stands) {
		if err := r.config.Client.ReleaseBatch(ctx, r.config.Journal.batches[at]); err != nil {
			return fmt.Errorf("everything is written; that its records may expire could not be told: %w", err)
		}
	}
	return nil
}
