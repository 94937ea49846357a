package command

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

func newJobsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "Find jobs, and retry or discard those that have ended",
	}
	cmd.AddCommand(newJobsListCommand(), newJobsShowCommand(), newRetryCommand(), newDiscardCommand())
	asGroup(cmd)
	return cmd
}

func newJobsListCommand() *cobra.Command {
	var flags filterFlags
	var groupBy string
	var limit int
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List jobs, or count them",
		Long: `List jobs: the open ones first, those with the latest deadline first; then those that have ended, the newest end
first. Neither prompts nor answers are read. --group-by counts the jobs instead.

A list is no snapshot: a job that ends while it is read may be listed twice.`,
		Example: `  forebay jobs list --status failed --newer-than 1h
  forebay jobs list --status failed --group-by code
  forebay jobs list --text invoice-17`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := flags.filter(cmd, time.Now())
			switch known := jobstore.Groupings(); {
			case err != nil:
				return err
			case limit < 1 || all && cmd.Flags().Changed("limit"):
				return refuseUsage(cmd, "--limit must be at least 1, and stands in the place of --all")
			case groupBy != "" && (all || cmd.Flags().Changed("limit")):
				return refuseUsage(cmd, "--group-by counts all jobs; leave out --limit and --all")
			case groupBy != "" && !slices.Contains(known, strings.ReplaceAll(groupBy, "-", "_")):
				return refuseUsage(cmd, "--group-by: %s", unknownName("group", groupBy, known))
			}
			return withJobs(cmd, func(jobs *jobsClient) error {
				if groupBy != "" {
					return jobs.printGroups(cmd, filter, strings.ReplaceAll(groupBy, "-", "_"))
				}
				if all {
					limit = 0
				}
				return jobs.printList(cmd, filter, limit)
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&groupBy, "group-by", "", "count them by `what`: "+strings.Join(jobstore.Groupings(), ", "))
	cmd.Flags().IntVar(&limit, "limit", jobstore.DefaultListLimit, "how many are listed at most")
	cmd.Flags().BoolVar(&all, "all", false, "list all of them")
	return cmd
}

// withJobs runs what needs the jobs and can do without a configuration.
func withJobs(cmd *cobra.Command, do func(*jobsClient) error) error {
	s, err := loadSettings(cmd)
	if err != nil {
		return err
	}
	jobs, err := openJobs(cmd, s)
	if err != nil {
		return err
	}
	defer jobs.close()
	return do(jobs)
}

// rows are the jobs that a filter means, page by page.
func (j *jobsClient) rows(ctx context.Context, filter producer.Filter) iter.Seq2[producer.Row, error] {
	return func(yield func(producer.Row, error) bool) {
		for cursor := ""; ; {
			page, err := j.List(ctx, filter, cursor, jobstore.MaxListLimit/2)
			if err != nil {
				yield(producer.Row{}, err)
				return
			}
			for _, row := range page.Jobs {
				if !yield(row, nil) {
					return
				}
			}
			if cursor = page.Next; cursor == "" {
				return
			}
		}
	}
}

// printList prints up to limit jobs, or all of them for 0.
func (j *jobsClient) printList(cmd *cobra.Command, filter producer.Filter, limit int) error {
	var out rowPrinter = &rowTable{out: cmd.OutOrStdout(), now: time.Now()}
	if wantsJSON(cmd) {
		out = &rowJSON{jsonList{out: cmd.OutOrStdout(), name: "jobs"}}
	}
	printed, more := 0, false
	for row, err := range j.rows(cmd.Context(), filter) {
		if err != nil {
			return err
		}
		if more = limit > 0 && printed == limit; more {
			break
		}
		if err := out.row(row); err != nil {
			return err
		}
		printed++
	}
	if err := out.end(more); err != nil {
		return err
	}
	switch {
	case more:
		fmt.Fprintf(cmd.ErrOrStderr(), "forebay: there are more than these %d; list them with --all, or count them with --group-by\n", limit)
	case printed == 0:
		fmt.Fprintln(cmd.ErrOrStderr(), "forebay: no such jobs")
	}
	return nil
}

// rowPrinter prints jobs as they come: a list may be longer than the memory.
type rowPrinter interface {
	row(row producer.Row) error
	end(more bool) error
}

// jsonList writes {"<name>":[...],"more":false} as its members come.
type jsonList struct {
	out   io.Writer
	name  string
	begun bool
}

func (p *jsonList) add(member any) error {
	before := ","
	if !p.begun {
		p.begun, before = true, `{"`+p.name+`":[`
	}
	text, err := tasks.Encode(member)
	if err == nil {
		_, err = fmt.Fprintf(p.out, "%s%s", before, text)
	}
	return err
}

func (p *jsonList) end(more bool) error {
	before := ""
	if !p.begun {
		before = `{"` + p.name + `":[`
	}
	_, err := fmt.Fprintf(p.out, "%s],\"more\":%t}\n", before, more)
	return err
}

// rowJSON writes {"jobs":[...],"more":false}.
type rowJSON struct{ jsonList }

func (p *rowJSON) row(row producer.Row) error { return p.add(row) }

// tableRows is how many lines of a table are aligned together.
const tableRows = 500

// rowTable writes a table, some hundred lines at a time.
type rowTable struct {
	out     io.Writer
	now     time.Time
	waiting []producer.Row
}

func (p *rowTable) row(row producer.Row) error {
	if p.waiting = append(p.waiting, row); len(p.waiting) < tableRows {
		return nil
	}
	return p.flush()
}

func (p *rowTable) end(bool) error { return p.flush() }

func (p *rowTable) flush() error {
	if len(p.waiting) == 0 {
		return nil
	}
	list := table(p.out)
	row(list, "JOB", "STATUS", "TASK TYPE", "WHEN", "COST", "WHAT")
	for _, r := range p.waiting {
		price := "-"
		if r.CostUSD > 0 {
			price = dollars(r.CostUSD)
		}
		row(list, r.ID, rowStatus(r), dash(r.TaskType), rowTime(r, p.now), price, printable(rowNote(r, p.now)))
	}
	p.waiting = p.waiting[:0]
	return list.Flush()
}

func rowStatus(r producer.Row) string {
	if r.Run > 1 {
		return fmt.Sprintf("%s, run %d", r.Status, r.Run)
	}
	return string(r.Status)
}

func rowTime(r producer.Row, now time.Time) string {
	at := r.CreatedAt
	if r.Status.Ended() {
		at = r.FinishedAt
	}
	if at == nil {
		return "-"
	}
	return clock(*at, now)
}

// rowNote says the most of a job that one line has room for.
func rowNote(r producer.Row, now time.Time) string {
	const longest = 80
	var text string
	switch {
	case r.Error != nil && r.Status != tasks.StatusSucceeded:
		text = r.Code() + ": " + r.Error.Message
	case r.Endpoint != "":
		text = r.Model + "@" + r.Endpoint
	}
	if r.Waiting != nil {
		text = waiting(r.Waiting, now)
	}
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest-3]) + "..."
	}
	return dash(text)
}

// printGroups counts jobs.
func (j *jobsClient) printGroups(cmd *cobra.Command, filter producer.Filter, by string) error {
	groups, err := j.Group(cmd.Context(), filter, by)
	if err != nil {
		return err
	}
	if groups.Partial {
		fmt.Fprintf(cmd.ErrOrStderr(), "forebay: only the first %d jobs were looked at; narrow them down, for example with --newer-than\n", groups.Looked)
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, groups)
	}
	list, now := table(cmd.OutOrStdout()), time.Now()
	row(list, strings.ToUpper(strings.ReplaceAll(by, "_", " ")), "JOBS", "LATEST", "EXAMPLE")
	for _, g := range groups.Groups {
		latest := "-"
		if g.Latest != nil {
			latest = clock(*g.Latest, now)
		}
		row(list, printable(dash(g.Key)), g.Jobs, latest, g.Example)
	}
	return list.Flush()
}
