// Package demo runs the demonstration: a whole deployment in one process summarises real documents on simulated
// endpoints, the first of which fails half-way and recovers. It asserts what it shows.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/deploy/sandbox/corpus"
	"github.com/forebay-queue/forebay/tasks"
)

const (
	taskType = "fast_summary"
	// metadataName is the key under which a job's metadata keep its document's name, metadataLimit how long that may
	// be, in characters.
	metadataName  = "document"
	metadataLimit = 512
	// stalled is how long nothing may end before the demonstration gives up.
	stalled = 2 * time.Minute
)

// Config configures a demonstration.
type Config struct {
	// Corpus holds the documents. Required.
	Corpus *corpus.Corpus
	// Pace defaults to PaceShow.
	Pace Pace
	// Out takes the progress: a live display when it is a terminal, else plain lines.
	Out io.Writer
	// Log takes the lines of the workers. The zero value discards them.
	Log zerolog.Logger
}

// Demo is a deployment with its documents.
type Demo struct {
	// Sandbox is the deployment; it runs until Close.
	Sandbox *sandbox.Sandbox

	config   Config
	scenario scenario
	jobs     []tasks.Job
}

// Interrupted is the error of a demonstration whose context ended.
type Interrupted struct{ Done, Jobs int }

// Error implements error.
func (i *Interrupted) Error() string {
	return fmt.Sprintf("interrupted: %d of %d jobs were done", i.Done, i.Jobs)
}

// Start starts the deployment. The context bounds the start only.
func Start(ctx context.Context, config Config) (*Demo, error) {
	if config.Pace == (Pace{}) {
		config.Pace = PaceShow
	}
	documents := config.Corpus.Documents
	d := &Demo{config: config, scenario: plan(len(documents), config.Pace)}
	for i, document := range documents {
		d.jobs = append(d.jobs, tasks.Job{
			ID: jobID(i), TaskType: taskType, Input: document.Text,
			Metadata: map[string]string{metadataName: clip(document.Name, metadataLimit)},
		})
	}
	s, err := sandbox.Start(ctx, sandbox.Config{
		Regions: d.scenario.regions, Recovery: config.Pace.Recovery, HealthInterval: healthInterval,
		Slots: d.scenario.slots, Seed: 1, Log: config.Log,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, &Interrupted{Jobs: len(d.jobs)}
		}
		return nil, fmt.Errorf("start the demonstration: %w", err)
	}
	d.Sandbox = s
	return d, nil
}

func jobID(i int) string { return fmt.Sprintf("demo-%04d", i+1) }

// Close ends the deployment; see sandbox.Sandbox.
func (d *Demo) Close(ctx context.Context) error { return d.Sandbox.Close(ctx) }

// Run enqueues all documents at once, shows how they are summarised, and reports what came of them. A report whose
// Problems are not empty is returned all the same. The error is *Interrupted when the context ended.
func (d *Demo) Run(ctx context.Context) (*Report, error) {
	watch := newWatch(d)
	display := newDisplay(d.config.Out, watch.endpoints, len(d.jobs))
	results, err := d.work(ctx, watch, display)
	display.close()
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, &Interrupted{Done: watch.done(), Jobs: len(d.jobs)}
	case err != nil:
		return nil, err
	}
	report, err := d.report(ctx, results, watch)
	if ctx.Err() != nil && err != nil {
		return nil, &Interrupted{Done: watch.done(), Jobs: len(d.jobs)}
	}
	return report, err
}

// work does all jobs and returns their results, in the order of the documents.
func (d *Demo) work(ctx context.Context, watch *watch, display display) ([]tasks.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var background errgroup.Group
	background.Go(func() error { return watch.run(ctx, display) })
	results, err := d.collect(ctx, watch, cancel)
	cancel(nil)
	watchErr := background.Wait()
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return results, errors.Join(err, watchErr)
}

// collect enqueues the jobs and waits for all of them.
func (d *Demo) collect(ctx context.Context, watch *watch, cancel context.CancelCauseFunc) ([]tasks.Result, error) {
	alarm := time.AfterFunc(stalled, func() {
		cancel(fmt.Errorf("no job has ended for %s; run it again with --log-level debug to see why", stalled))
	})
	defer alarm.Stop()
	results := make([]tasks.Result, len(d.jobs))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		select {
		case err := <-d.Sandbox.Failed():
			return err
		case <-watch.allDone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	jobs := func(yield func(tasks.Job) bool) {
		for _, job := range d.jobs {
			if !yield(job) {
				return
			}
		}
	}
	for receipt, err := range d.Sandbox.Client.EnqueueMany(ctx, jobs) {
		if err != nil {
			cancel(err)
			break
		}
		group.Go(func() error {
			result, err := d.Sandbox.Client.Wait(ctx, receipt.ID)
			if err != nil {
				return err
			}
			alarm.Reset(stalled)
			results[receipt.Index] = result
			watch.ended(result)
			return nil
		})
	}
	return results, group.Wait()
}

// clip cuts a text to so many characters.
func clip(text string, characters int) string {
	if runes := []rune(text); len(runes) > characters {
		return string(runes[:characters-1]) + "…"
	}
	return text
}
