package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

const (
	// unasked is how many jobs are changed by a filter without --yes.
	unasked = 100
	// changesAtOnce is how many jobs are changed at a time.
	changesAtOnce = 32
	// progressEvery is how often it is said how far a change of many has come.
	progressEvery = 2 * time.Second
	// toldProblems is how many different jobs' errors are told.
	toldProblems = 5
)

// change is what `forebay jobs retry` and `discard` do with jobs.
type change struct {
	// done is what has been done: "reopened".
	done string
	// statuses are those of the jobs that it can be done to.
	statuses []tasks.Status
	// usual are the statuses that a filter means which names none.
	usual []tasks.Status
	// one does it to a job, if its run is still the given one; 0 is any.
	one func(ctx context.Context, jobs *jobsClient, id string, run int) error
}

// changeReply is what they print with --json.
type changeReply struct {
	Jobs      int  `json:"jobs"`
	LeftAlone int  `json:"left_alone"`
	Failed    int  `json:"failed"`
	DryRun    bool `json:"dry_run,omitempty"`
}

func newRetryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry ID...|--status failed ...",
		Short: "Run jobs again that failed, expired or were cancelled",
		Long: `Run jobs again that have failed, expired, or were cancelled: those named, or all that a filter means. Each begins its
next run at once, with all its retries; what its earlier runs cost still counts, and their results are kept in its
record. A job that has succeeded is never run again. Others may do the same at the same time: each job is run once.`,
		Example: `  forebay jobs retry invoice-17
  forebay jobs retry --batch batch_0198f... --class unavailable
  forebay jobs retry --status failed --code no_route --newer-than 2h --dry-run`,
	}
	return withJobsToChange(cmd, change{
		done:     "reopened",
		statuses: []tasks.Status{tasks.StatusFailed, tasks.StatusCancelled, tasks.StatusExpired},
		usual:    []tasks.Status{tasks.StatusFailed},
		one: func(ctx context.Context, jobs *jobsClient, id string, run int) (err error) {
			if run == 0 {
				_, err = jobs.Reopen(ctx, id)
			} else {
				_, err = jobs.ReopenRun(ctx, id, run)
			}
			return err
		},
	})
}

func newDiscardCommand() *cobra.Command {
	ends := []tasks.Status{tasks.StatusSucceeded, tasks.StatusFailed, tasks.StatusCancelled, tasks.StatusExpired}
	cmd := &cobra.Command{
		Use:   "discard ID...|--status failed ...",
		Short: "Delete the records of jobs that have ended",
		Long: `Delete all that is kept of jobs which have ended, answers included: those named, or all that a filter means. It cannot
be undone, and their ids are free afterwards. A job that has not ended is cancelled first, with ` + "`forebay cancel`" + `.`,
		Example: `  forebay jobs discard invoice-17
  forebay jobs discard --status failed --older-than 720h`,
	}
	return withJobsToChange(cmd, change{
		done: "discarded", statuses: ends, usual: ends,
		one: func(ctx context.Context, jobs *jobsClient, id string, run int) error {
			return jobs.Discard(ctx, id, run)
		},
	})
}

func withJobsToChange(cmd *cobra.Command, c change) *cobra.Command {
	var flags filterFlags
	var yes, dryRun bool
	var limit int
	flags.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, fmt.Sprintf("do it to more than %d jobs, or without any filter but the status", unasked))
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "list the jobs and change nothing")
	cmd.Flags().IntVar(&limit, "limit", 0, "how many at most (default: all)")
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given := flags.given(cmd)
		switch {
		case len(args) > 0 && (given || limit != 0 || dryRun):
			return refuseUsage(cmd, "give the ids of jobs, or a filter, not both; --limit and --dry-run belong to a filter")
		case len(args) == 0 && !given:
			return refuseUsage(cmd, "give the ids of jobs, or which are meant, such as --status failed")
		case limit < 0:
			return refuseUsage(cmd, "--limit must be at least 1")
		case len(args) > 0:
			return withJobs(cmd, func(jobs *jobsClient) error { return c.named(cmd, jobs, args) })
		}
		filter, err := c.filter(cmd, flags)
		if err != nil {
			return err
		}
		return withJobs(cmd, func(jobs *jobsClient) error {
			selected := &selection{jobs: jobs, filter: filter, limit: limit}
			if dryRun {
				return selected.list(cmd)
			}
			if !yes {
				if err := selected.few(cmd, flags, c.done); err != nil {
					return err
				}
			}
			return c.filtered(cmd, jobs, selected)
		})
	}
	return cmd
}

// filter is that of the flags, with the statuses that the change can be made to.
func (c change) filter(cmd *cobra.Command, flags filterFlags) (producer.Filter, error) {
	filter, err := flags.filter(cmd, time.Now())
	if err != nil {
		return filter, err
	}
	for _, status := range filter.Statuses {
		if !slices.Contains(c.statuses, status) {
			reason := "a success is never run again"
			if !status.Ended() {
				reason = "cancel them first, or wait for their end"
			}
			return filter, refuseUsage(cmd, "jobs that are %s cannot be %s: %s", status, c.done, reason)
		}
	}
	if len(filter.Statuses) == 0 {
		filter.Statuses = c.usual
	}
	return filter, nil
}

// named changes the jobs whose ids are given. Each that cannot be is told with its reason.
func (c change) named(cmd *cobra.Command, jobs *jobsClient, ids []string) error {
	var problems []error
	changed := 0
	for _, id := range ids {
		if err := c.one(cmd.Context(), jobs, id, 0); err != nil {
			problems = append(problems, err)
			continue
		}
		changed++
		if !wantsJSON(cmd) {
			fmt.Fprintf(cmd.OutOrStdout(), "job %s is %s\n", id, c.done)
		}
	}
	if wantsJSON(cmd) {
		problems = append(problems, printJSON(cmd, changeReply{Jobs: changed, Failed: len(problems)}))
	}
	return errors.Join(problems...)
}

// progress counts what a change of many has come to.
type progress struct {
	mu       sync.Mutex
	reply    changeReply
	problems []error
}

func (p *progress) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.reply.Jobs++
	case errors.Is(err, producer.ErrStaleRun), errors.Is(err, producer.ErrNotEnded), errors.Is(err, producer.ErrNotFound),
		errors.Is(err, producer.ErrSucceeded):
		p.reply.LeftAlone++ // somebody else was faster
	default:
		if p.reply.Failed++; len(p.problems) < toldProblems {
			p.problems = append(p.problems, err)
		}
	}
}

func (p *progress) text(done string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("%s %s", plural(p.reply.Jobs, "job"), done)
	if p.reply.LeftAlone > 0 {
		text += fmt.Sprintf(", %d left alone, as others have changed them meanwhile", p.reply.LeftAlone)
	}
	if p.reply.Failed > 0 {
		text += fmt.Sprintf(", %d could not be", p.reply.Failed)
	}
	return text
}

// filtered changes what was selected.
func (c change) filtered(cmd *cobra.Command, jobs *jobsClient, selected *selection) error {
	var p progress
	told := make(chan struct{})
	ticker := time.NewTicker(progressEvery)
	ctx, stop := context.WithCancel(cmd.Context())
	go func() {
		defer close(told)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintln(cmd.ErrOrStderr(), "forebay:", p.text(c.done)+" so far")
			case <-ctx.Done():
				return
			}
		}
	}()
	var group errgroup.Group
	group.SetLimit(changesAtOnce)
	var failed error
	for row, err := range selected.rows(ctx) {
		if err == nil {
			err = ctx.Err() // what a signal has ended begins no further job
		}
		if err != nil {
			failed = err
			break
		}
		group.Go(func() error {
			p.note(c.one(context.WithoutCancel(ctx), jobs, row.ID, row.Run))
			return nil
		})
	}
	_ = group.Wait() // errors are noted
	stop()
	<-told
	var err error
	if wantsJSON(cmd) {
		err = printJSON(cmd, p.reply)
	} else {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), p.text(c.done))
	}
	if cmd.Context().Err() != nil {
		failed = fmt.Errorf("interrupted; the same command goes on with the others")
	}
	return errors.Join(append(p.problems, failed, err)...)
}

// selection is the jobs that a filter means, up to a limit.
type selection struct {
	jobs   *jobsClient
	filter producer.Filter
	limit  int
}

func (s *selection) rows(ctx context.Context) func(yield func(producer.Row, error) bool) {
	return func(yield func(producer.Row, error) bool) {
		given := 0
		for row, err := range s.jobs.rows(ctx, s.filter) {
			if s.limit > 0 && given == s.limit || !yield(row, err) {
				return
			}
			given++
		}
	}
}

// few refuses to go on without --yes where the selection is large, or everything of a status.
func (s *selection) few(cmd *cobra.Command, flags filterFlags, done string) error {
	statuses := ""
	if len(flags.statuses) == 0 {
		statuses = " --status " + joined(s.filter.Statuses, ",")
	}
	look := fmt.Sprintf("look at them with `forebay jobs list%s%s` and repeat it with --yes", statuses, flags.asFlags(cmd))
	narrow := slices.ContainsFunc(filterNames, func(name string) bool { return name != "status" && cmd.Flags().Changed(name) })
	if !narrow && s.limit == 0 {
		return fmt.Errorf("all jobs that are %s would be %s; %s", joined(s.filter.Statuses, " or "), done, look)
	}
	found := 0
	for _, err := range s.rows(cmd.Context()) {
		if err != nil {
			return err
		}
		if found++; found > unasked {
			return fmt.Errorf("more than %d jobs would be %s; %s", unasked, done, look)
		}
	}
	return nil
}

func joined(statuses []tasks.Status, separator string) string {
	texts := make([]string, len(statuses))
	for i, status := range statuses {
		texts[i] = string(status)
	}
	return strings.Join(texts, separator)
}

// list shows what would be changed.
func (s *selection) list(cmd *cobra.Command) error {
	reply := changeReply{DryRun: true}
	out := &rowTable{out: cmd.OutOrStdout(), now: time.Now()}
	for r, err := range s.rows(cmd.Context()) {
		if err != nil {
			return err
		}
		if reply.Jobs++; !wantsJSON(cmd) {
			if err := out.row(r); err != nil {
				return err
			}
		}
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, reply)
	}
	if err := out.end(false); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "forebay: %s; nothing was changed\n", plural(reply.Jobs, "job"))
	return nil
}
