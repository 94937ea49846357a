package command

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
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
	var bulk manyFlags
	flags.add(cmd)
	bulk.add(cmd, "job", "without any filter but the status")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := bulk.check(cmd, "job", "--status failed", args, flags.given(cmd)); err != nil {
			return err
		}
		if len(args) > 0 {
			return withJobs(cmd, func(jobs *jobsClient) error { return c.many(jobs).named(cmd, args) })
		}
		filter, err := c.filter(cmd, flags)
		if err != nil {
			return err
		}
		return withJobs(cmd, func(jobs *jobsClient) error {
			selected := &selection{jobs: jobs, filter: filter, limit: bulk.limit}
			if bulk.dryRun {
				return selected.list(cmd)
			}
			of := selected.chosen(cmd, flags)
			if !bulk.yes {
				if err := c.many(jobs).few(cmd, of); err != nil {
					return err
				}
			}
			return c.many(jobs).change(cmd, of)
		})
	}
	return cmd
}

func (c change) many(jobs *jobsClient) many {
	return many{
		noun: "job", done: c.done,
		one:       func(ctx context.Context, of item) error { return c.one(ctx, jobs, of.id, of.run) },
		overtaken: producer.Overtaken,
	}
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

// selection is the jobs that a filter means, up to a limit.
type selection struct {
	jobs   *jobsClient
	filter producer.Filter
	limit  int
}

func (s *selection) rows(ctx context.Context) iter.Seq2[producer.Row, error] {
	return upTo(s.limit, s.jobs.rows(ctx, s.filter))
}

// chosen are they for a change of many.
func (s *selection) chosen(cmd *cobra.Command, flags filterFlags) chosen {
	statuses := ""
	if len(flags.statuses) == 0 {
		statuses = " --status " + joined(s.filter.Statuses, ",")
	}
	of := chosen{
		look: "forebay jobs list" + statuses + flags.asFlags(cmd),
		items: func(ctx context.Context) iter.Seq2[item, error] {
			return func(yield func(item, error) bool) {
				for row, err := range s.rows(ctx) {
					if !yield(item{row.ID, row.Run}, err) {
						return
					}
				}
			}
		},
	}
	narrow := slices.ContainsFunc(filterNames, func(name string) bool { return name != "status" && cmd.Flags().Changed(name) })
	if !narrow && s.limit == 0 {
		of.all = "jobs that are " + joined(s.filter.Statuses, " or ")
	}
	return of
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
	reply := manyReply{noun: "job", dryRun: true}
	out := &rowTable{out: cmd.OutOrStdout(), now: time.Now()}
	for r, err := range s.rows(cmd.Context()) {
		if err != nil {
			return err
		}
		if reply.changed++; !wantsJSON(cmd) {
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
	fmt.Fprintf(cmd.ErrOrStderr(), "forebay: %s; nothing was changed\n", plural(reply.changed, "job"))
	return nil
}
