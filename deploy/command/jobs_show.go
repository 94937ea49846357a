package command

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// showReply is what `forebay jobs show --json` prints: everything that is kept of a job.
type showReply struct {
	tasks.Result
	Priority     tasks.Priority `json:"priority,omitempty"`
	Shard        keyspace.Shard `json:"shard,omitempty"`
	PromptTokens int            `json:"prompt_tokens,omitempty"`
	Deliveries   int            `json:"deliveries,omitempty"`
	Deaths       int            `json:"deaths,omitempty"`
	Worker       string         `json:"worker,omitempty"`
	Cancelling   bool           `json:"cancelling,omitempty"`
	// Job is what was asked, as it was accepted.
	Job      tasks.Job      `json:"job"`
	Previous []tasks.Result `json:"previous,omitempty"`
}

func newJobsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show everything that is kept of a job",
		Long: `Show everything that is kept of a job: what it asks for, where it stands, every call that was made for it, its
answer or why there is none and what to do, and its earlier runs. The prompt itself is in --json only.`,
		Args: exactID,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			jobs, err := openJobs(cmd, s)
			if err != nil {
				return err
			}
			defer jobs.close()
			record, err := jobs.record(cmd, args[0])
			if err != nil {
				return err
			}
			result, err := jobs.ResultOf(cmd.Context(), record)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, showReply{
					Result: result, Priority: record.Priority, Shard: record.Shard, PromptTokens: record.PromptTokens, Deliveries: record.Deliveries,
					Deaths: record.Deaths, Worker: record.Worker, Cancelling: record.Cancel, Job: record.Job, Previous: record.Previous,
				})
			}
			now := time.Now()
			if err := printAsked(cmd.OutOrStdout(), record, now); err != nil {
				return err
			}
			if err := printResult(cmd.OutOrStdout(), result, s.simulated(result), now); err != nil {
				return err
			}
			return printPrevious(cmd.OutOrStdout(), record, now)
		},
	}
}

// record reads the whole record of a job.
func (j *jobsClient) record(cmd *cobra.Command, id string) (*jobstore.Record, error) {
	if !tasks.ValidID(id) {
		_, err := j.Get(cmd.Context(), id) // it says what an id is
		return nil, err
	}
	store, err := jobstore.New(jobstore.Config{Redis: j.redis, Prefix: j.keys.Prefix(), Sealer: j.Sealer()})
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }() // it ends its waits, of which there is none
	return store.Get(cmd.Context(), id)
}

// printAsked shows what the job asks for and how it is done.
func printAsked(out io.Writer, record *jobstore.Record, now time.Time) error {
	list := table(out)
	line := func(name, value string) {
		if value != "" {
			row(list, name, printable(value))
		}
	}
	job := record.Job
	asks := string(job.Kind)
	for _, part := range []struct{ name, value string }{
		{"models", strings.Join(job.Model, ", ")}, {"profile", job.Profile}, {"tier", job.Tier},
	} {
		if part.value != "" {
			asks += ", " + part.name + " " + part.value
		}
	}
	line("asks for", fmt.Sprintf("%s; a prompt of about %s", asks, plural(record.PromptTokens, "token")))
	line("tenant", record.Tenant)
	line("priority", string(record.Priority))
	line("shard", string(record.Shard))
	if job.Deadline != nil {
		line("deadline", clock(*job.Deadline, now))
	}
	if job.MaxRetries != nil {
		line("retries", fmt.Sprintf("%d of %d spent", record.Failures, *job.MaxRetries))
	}
	if job.MaxCostUSD != nil {
		line("may cost", dollars(*job.MaxCostUSD))
	}
	line("deliveries", deliveriesOf(record))
	line("kept", keptUntil(record, now))
	if record.Cancel {
		line("cancel", "its worker is asked to end it")
	}
	return list.Flush()
}

func deliveriesOf(record *jobstore.Record) string {
	if record.Deliveries == 0 {
		return ""
	}
	text := fmt.Sprint(record.Deliveries)
	if record.Deaths > 0 {
		text += fmt.Sprintf(", %d of them lost with their worker", record.Deaths)
	}
	if record.Worker != "" {
		text += ", the last one by worker " + record.Worker
	}
	return text
}

// keptUntil says how long the record stays.
func keptUntil(record *jobstore.Record, now time.Time) string {
	retention := jobstore.DefaultRetention
	if record.Job.Retention > 0 {
		retention = time.Duration(record.Job.Retention)
	}
	switch {
	case record.Status == tasks.StatusFailed:
		return "until it is retried or discarded, as a failed job"
	case record.Status.Ended():
		return "until " + clock(record.FinishedAt.Add(retention), now)
	}
	return "for " + brief(retention) + " after its end"
}

// printPrevious shows what earlier runs came to.
func printPrevious(out io.Writer, record *jobstore.Record, now time.Time) error {
	if len(record.Previous) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	list := table(out)
	row(list, "EARLIER RUN", "ENDED", "STATUS", "WHY")
	for _, result := range record.Previous {
		ended, why := "-", "-"
		if result.FinishedAt != nil {
			ended = clock(*result.FinishedAt, now)
		}
		if result.Error != nil {
			why = result.Error.Error()
		}
		row(list, result.Run, ended, result.Status, printable(why))
	}
	return list.Flush()
}
