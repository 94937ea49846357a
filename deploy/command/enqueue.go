package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

// enqueueFlags are those of `forebay enqueue`.
type enqueueFlags struct {
	file, input, request, job string

	taskType, id, priority, profile, tier, kind, tenant string
	deadline, runAt                                     string
	models, metadata                                    []string
	maxRetries                                          int
	retention                                           time.Duration
	maxCost                                             float64
	webhook, webhookSecret, replyStream                 string

	wait    bool
	timeout time.Duration
}

// enqueueReply is what `forebay enqueue --json` prints without --wait.
type enqueueReply struct {
	ID     string       `json:"id"`
	Status tasks.Status `json:"status"`
	// Created is false for a job that had been accepted before under this id.
	Created bool `json:"created"`
}

func newEnqueueCommand() *cobra.Command {
	var flags enqueueFlags
	cmd := &cobra.Command{
		Use:   "enqueue (--file FILE | --input TEXT | --request FILE | --job FILE | -)",
		Short: "Hand in one job",
		Long: `Hand in one job and print its id; with --wait, wait for its end and print the answer's text instead. What the job
asks is a text (--file, --input, or - for the standard input), the body of an OpenAI call (--request), or a whole
job as JSON (--job), of which the other flags then replace fields. Every FILE may be - too.

A job that was handed in before under the same --id, asking for the same, is not done twice. When it has ended, it is
said how, and nothing is waited for.

The job goes on in the trace that the environment variables TRACEPARENT and TRACESTATE hold.

The exit status is 0 when the job was accepted or has succeeded already, with --wait when it succeeded, and else 1.`,
		Example: `  forebay enqueue --type fast_summary --file doc.txt --wait
  cat doc.txt | forebay enqueue --type fast_summary -
  forebay enqueue --tier low --request body.json --priority bulk --deadline 2h`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] != "-" {
				return refuseUsage(cmd, "takes flags only, or - for the standard input, got %q; a file is named with --file", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if flags.file != "" {
					return refuseUsage(cmd, "- stands beside --file; give one of them")
				}
				flags.file = "-"
			}
			return runEnqueue(cmd, flags)
		},
	}
	flags.describe(cmd.Flags())
	f := cmd.Flags()
	f.StringVar(&flags.id, "id", "", "the job's `id`, A-Z a-z 0-9 _ - (default: a new one)")
	f.StringVar(&flags.runAt, "run-at", "", "earliest start: a `time` (RFC 3339) or a duration from now, such as 10m")
	f.StringVar(&flags.deadline, "deadline", "", "`time` (RFC 3339) or duration from now after which the job ends as expired")
	f.BoolVar(&flags.wait, "wait", false, "wait for the job's end, and print the answer's text (with --json the result)")
	f.DurationVar(&flags.timeout, "timeout", 0, "how long to wait at most (default: as long as it takes)")
	return cmd
}

// describe are the flags that say what a job asks for.
func (flags *enqueueFlags) describe(f *pflag.FlagSet) {
	f.StringVarP(&flags.taskType, "type", "t", "", "task `type` of the configuration; it picks models, prompt and defaults")
	f.StringVarP(&flags.file, "file", "f", "", "`file` with the text")
	f.StringVar(&flags.input, "input", "", "the `text` itself")
	f.StringVar(&flags.request, "request", "", "`file` with the body of an OpenAI call, without its model")
	f.StringVar(&flags.job, "job", "", "`file` with a whole job as JSON")
	f.StringVar(&flags.priority, "priority", "", "critical, default or bulk")
	f.StringSliceVar(&flags.models, "model", nil, "`model`, or several in the order in which they are tried")
	f.StringVar(&flags.profile, "profile", "", "routing profile of the configuration")
	f.StringVar(&flags.tier, "tier", "", "tier of the configuration")
	f.StringVar(&flags.kind, "kind", "", "chat or embedding, where it is not clear from the rest")
	f.IntVar(&flags.maxRetries, "max-retries", 0, "how often a failed delivery is repeated; 0 is once (default: the configuration's)")
	f.DurationVar(&flags.retention, "retention", 0, "how long the result is kept (default: the configuration's)")
	f.Float64Var(&flags.maxCost, "max-cost", 0, "what all calls of the job may cost, in US `dollars` (default: no limit)")
	f.StringVar(&flags.tenant, "tenant", "", "who pays")
	f.StringArrayVar(&flags.metadata, "metadata", nil, "`key=value` that the result brings back (repeatable)")
	f.StringVar(&flags.webhook, "webhook", "", "`url` that is told of the job's end")
	f.StringVar(&flags.webhookSecret, "webhook-secret", "", "`name` of the secret that signs it (default \"default\")")
	f.StringVar(&flags.replyStream, "reply-stream", "", "`name` of the Redis stream that receives the result")
}

func runEnqueue(cmd *cobra.Command, flags enqueueFlags) error {
	if flags.timeout < 0 || flags.timeout > 0 && !flags.wait {
		return refuseUsage(cmd, "--timeout must be positive, and belongs to --wait")
	}
	if cmd.Flags().Changed("retention") && flags.retention < time.Second {
		return refuseUsage(cmd, "--retention must be 1s to 8784h, got %s; leave it out for the configuration's", flags.retention)
	}
	job, err := buildJob(cmd, flags, time.Now())
	if err != nil {
		return err
	}
	s, err := requireSettings(cmd)
	if err != nil {
		return err
	}
	flush, err := exportTraces(cmd.Context(), s.file, "enqueue", newLog(cmd, s.file.Log).Level(zerolog.WarnLevel))
	if err != nil {
		return err
	}
	defer flush()
	jobs, err := openJobs(cmd, s)
	if err != nil {
		return err
	}
	defer jobs.close()
	receipt, err := jobs.Enqueue(tracedByCaller(cmd.Context()), job)
	if err != nil {
		return err
	}
	if !flags.wait {
		return printReceipt(cmd, receipt)
	}
	switch {
	case wantsJSON(cmd):
	case hasEnded(receipt):
		fmt.Fprintf(cmd.ErrOrStderr(), "forebay: %s\n", endedBefore(receipt))
	default:
		fmt.Fprintf(cmd.ErrOrStderr(), "job %s %s, waiting for its end\n", receipt.ID, receipt.Status)
	}
	result, err := jobs.wait(cmd, receipt.ID, flags.timeout)
	if err != nil {
		return err
	}
	if wantsJSON(cmd) {
		if err := printJSON(cmd, result); err != nil {
			return err
		}
		return unsuccessful(result)
	}
	return printText(cmd, result)
}

// printReceipt prints which job was accepted. One that has ended before is told, and is an error unless it succeeded.
func printReceipt(cmd *cobra.Command, receipt producer.Receipt) (err error) {
	if wantsJSON(cmd) {
		err = printJSON(cmd, enqueueReply{receipt.ID, receipt.Status, receipt.Created})
	} else {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), receipt.ID)
	}
	switch {
	case err != nil || !hasEnded(receipt):
		return err
	case receipt.Status != tasks.StatusSucceeded:
		return errors.New(endedBefore(receipt))
	case !wantsJSON(cmd):
		fmt.Fprintf(cmd.ErrOrStderr(), "forebay: %s\n", endedBefore(receipt))
	}
	return nil
}

// hasEnded tells of a job that was enqueued before and is not run again.
func hasEnded(receipt producer.Receipt) bool { return !receipt.Created && receipt.Status.Ended() }

func endedBefore(receipt producer.Receipt) string {
	if receipt.Status == tasks.StatusSucceeded {
		return fmt.Sprintf("job %[1]s was enqueued before and has succeeded; it is not run again, its answer is that of `forebay get %[1]s`", receipt.ID)
	}
	return fmt.Sprintf("job %s was enqueued before and has ended as %s; it is not run again; choose another id", receipt.ID, receipt.Status)
}
