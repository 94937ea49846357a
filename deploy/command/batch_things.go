package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

func newBatchListCommand() *cobra.Command {
	var tenant, after string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List batches, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > batches.MaxListLimit {
				return refuseUsage(cmd, "--limit must be 1 to %d", batches.MaxListLimit)
			}
			return withJobs(cmd, func(jobs *jobsClient) error {
				list, more, err := jobs.Batches().List(cmd.Context(), tenant, after, limit)
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, struct {
						Batches []batches.Batch `json:"batches"`
						More    bool            `json:"more"`
					}{append([]batches.Batch{}, list...), more})
				}
				return printBatches(cmd, list, more)
			})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "whose batches they are")
	cmd.Flags().StringVar(&after, "after", "", "go on behind the batch of this `id`")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many are listed at most")
	return cmd
}

func printBatches(cmd *cobra.Command, list []batches.Batch, more bool) error {
	if len(list) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "forebay: no such batches")
		return nil
	}
	out, now := table(cmd.OutOrStdout()), time.Now()
	row(out, "BATCH", "STATUS", "DONE", "FAILED", "COST", "CREATED", "NAME")
	for _, b := range list {
		row(out, b.ID, b.Status, fmt.Sprintf("%d/%d", b.Counts.Ended(), b.Total), withoutAnswer(b), dollars(b.CostUSD),
			clock(b.CreatedAt, now), printable(dash(b.Name)))
	}
	if more {
		defer fmt.Fprintf(cmd.ErrOrStderr(), "forebay: there are more; list them with --after %s\n", list[len(list)-1].ID)
	}
	return out.Flush()
}

// withoutAnswer is how many members have ended without an answer.
func withoutAnswer(b batches.Batch) int {
	return b.Counts.Failed + b.Counts.Cancelled + b.Counts.Expired
}

func newBatchStatusCommand() *cobra.Command {
	var failures int
	cmd := &cobra.Command{
		Use:   "status ID",
		Short: "How a batch stands, and why members of it failed",
		Args:  exactBatch,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withJobs(cmd, func(jobs *jobsClient) error {
				batch, err := jobs.Batches().Get(cmd.Context(), args[0], "")
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, batch)
				}
				return jobs.printBatch(cmd, batch, failures)
			})
		},
	}
	cmd.Flags().IntVar(&failures, "failures", 5, "how many reasons of failures are shown; 0 is none")
	return cmd
}

// exactBatch takes the id of one batch.
func exactBatch(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return refuseUsage(cmd, "give the id of one batch, such as `%s batch_0123...`; `forebay batch list` shows them", cmd.CommandPath())
	}
	if !tasks.ValidID(args[0]) {
		return refuseUsage(cmd, "%.140q is no batch's id; `forebay batch list` shows them", args[0])
	}
	return nil
}

func (j *jobsClient) printBatch(cmd *cobra.Command, b batches.Batch, failures int) error {
	out := table(cmd.OutOrStdout())
	row(out, "batch", b.ID)
	if b.Name != "" {
		row(out, "name", printable(b.Name))
	}
	row(out, "tenant", b.Tenant)
	row(out, "status", b.Status)
	c := b.Counts
	row(out, "members", fmt.Sprintf("%d: %d succeeded, %d failed, %d cancelled, %d expired, %d to come", b.Total,
		c.Succeeded, c.Failed, c.Cancelled, c.Expired, max(0, b.Total-c.Ended())))
	row(out, "cost", fmt.Sprintf("%s, %d tokens in, %d out", dollars(b.CostUSD), b.Usage.PromptTokens, b.Usage.CompletionTokens))
	printBatchTimes(out, b)
	for _, file := range []struct{ name, id string }{{"input file", b.InputFileID}, {"output file", b.OutputFileID}, {"error file", b.ErrorFileID}} {
		if file.id != "" {
			row(out, file.name, file.id)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for i, problem := range b.Problems {
		if i == failures {
			fmt.Fprintf(cmd.OutOrStdout(), "... and %s more\n", plural(len(b.Problems)-i, "problem"))
			break
		}
		printProblem(cmd.OutOrStdout(), problem)
	}
	if failures == 0 || c.Failed == 0 {
		return nil
	}
	return j.printFailures(cmd, b, failures)
}

func printBatchTimes(out *tabwriter.Writer, b batches.Batch) {
	now := time.Now()
	row(out, "created", clock(b.CreatedAt, now))
	ended := b.EndedAt()
	switch {
	case !ended.IsZero():
		row(out, "ended", fmt.Sprintf("%s, after %s", clock(ended, now), brief(ended.Sub(b.CreatedAt))))
	case !b.Deadline.IsZero():
		row(out, "deadline", clock(b.Deadline, now))
	}
}

func printProblem(out io.Writer, p batches.Problem) {
	if p.Line > 0 {
		fmt.Fprintf(out, "line %d: ", p.Line)
	}
	fmt.Fprintf(out, "%s: %s\n", p.Code, printable(p.Message))
}

// printFailures groups the members that failed by why.
func (j *jobsClient) printFailures(cmd *cobra.Command, b batches.Batch, most int) error {
	groups, err := j.Group(cmd.Context(), producer.Filter{Batch: b.ID, Statuses: []tasks.Status{tasks.StatusFailed}}, "code")
	if err != nil {
		return err
	}
	out := table(cmd.OutOrStdout())
	row(out, "FAILED BY", "JOBS", "EXAMPLE")
	for _, g := range groups.Groups[:min(most, len(groups.Groups))] {
		row(out, printable(dash(g.Key)), g.Jobs, g.Example)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "see one with `forebay jobs show JOB`; run them again with `forebay batch retry-failed %s`\n", b.ID)
	return nil
}

func newBatchCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "End a batch that is not done yet",
		Long: `End a batch. Members that wait end at once; those that run are ended by their workers, and may still succeed when their
answer is on its way. What is done stays. The exit status is 1 when the batch had ended before.`,
		Args: exactBatch,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withJobs(cmd, func(jobs *jobsClient) error {
				batch, err := jobs.CancelBatch(cmd.Context(), args[0], "")
				switch {
				case errors.Is(err, batches.ErrEnded):
					return fmt.Errorf("batch %s was not cancelled: it is %s; see `forebay batch status %s`", args[0], jobs.batchStatus(cmd.Context(), args[0]), args[0])
				case err != nil:
					return err
				case wantsJSON(cmd):
					return printJSON(cmd, batch)
				}
				c := batch.Counts
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %s is %s: %d succeeded, %d cancelled, %d still running\n", batch.ID, batch.Status,
					c.Succeeded, c.Cancelled, max(0, batch.Total-c.Ended()))
				return err
			})
		},
	}
}

// batchStatus is how a batch stands, in a word.
func (j *jobsClient) batchStatus(ctx context.Context, id string) batches.Status {
	batch, _ := j.Batches().Get(ctx, id, "") // what cannot be read now was a moment ago
	return cmp.Or(batch.Status, "ended")
}

func newBatchRetryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry-failed ID",
		Short: "Run those members of a batch again that ended without an answer",
		Long: `Run the members of a batch again that failed, expired or were cancelled, with all their retries. What is done stays, and
what the earlier runs cost still counts. Members that were refused are left alone: correct their lines.`,
		Args: exactBatch,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withJobs(cmd, func(jobs *jobsClient) error {
				reopened, err := jobs.RetryBatch(cmd.Context(), args[0], "")
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, struct {
						Batch    string `json:"batch"`
						Reopened int    `json:"reopened"`
					}{args[0], reopened})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of batch %s run again\n", plural(reopened, "member"), args[0])
				return err
			})
		},
	}
}
