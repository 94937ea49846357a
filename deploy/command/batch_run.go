package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/deploy/filerun"
	"github.com/forebay-queue/forebay/producer/batchlines"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// journalSuffix and errorsSuffix are added to the output's name.
const (
	journalSuffix = ".forebay"
	errorsSuffix  = ".errors.jsonl"
)

// batchRunFlags are those of `forebay batch run`.
type batchRunFlags struct {
	out, format, output string

	taskType, profile, tier, promptFile string
	models                              []string
	textField, idField, tenant          string

	dryRun, local, retryFailed, overwrite bool
	data                                  string
	maxCost                               float64
	webhook, webhookSecret                string
}

func newBatchRunCommand() *cobra.Command {
	var flags batchRunFlags
	cmd := &cobra.Command{
		Use:   "run INPUT -o OUT",
		Short: "Do all lines of a file, or all files of a folder",
		Long: `Do all lines of a file, or all files of a folder, and write the answers into one file.

INPUT is lines of OpenAI's Batch API, jobs of Forebay, one a line, or - with --type, --tier, --profile or --model - any
JSONL or CSV with a text in one of its fields, or a folder of text, Markdown and HTML files. OUT is JSONL, or CSV where its
name ends in .csv. It stands there once it is whole; what did not succeed stands in OUT.errors.jsonl.

Ended at any moment, by whatever, and started again with the same files, it goes on where it was and pays for nothing
twice: OUT.forebay keeps what was asked and what was answered. Of an input that was changed, only what asks something new
is done. Ctrl-C leaves the batch running in its deployment.

The exit status is 0 when every line succeeded, and else 1; 130 after Ctrl-C.`,
		Example: `  forebay batch run articles.jsonl -o summaries.csv --type fast_summary --text-field body --output text
  forebay batch run ./notes -o notes.jsonl --type fast_summary --dry-run
  forebay batch run requests.jsonl -o answers.jsonl --max-cost 5
  forebay batch run ./notes -o notes.jsonl --type fast_summary --local --config forebay.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return refuseUsage(cmd, "takes one input, a file or a folder, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runBatch(cmd, args[0], flags) },
	}
	f := cmd.Flags()
	f.StringVarP(&flags.out, "out", "o", "", "`file` for the answers, .jsonl or .csv; required but for --dry-run")
	f.StringVar(&flags.output, "output", "", "what is written of each: result, text (id and text), response (the provider's body), or\nopenai (default: openai for OpenAI's lines, else result)")
	f.StringVar(&flags.format, "format", "", "openai, jobs, jsonl, csv, tsv or folder (default: as the input looks)")
	f.StringVarP(&flags.taskType, "type", "t", "", "task `type` of the configuration, for texts")
	f.StringSliceVar(&flags.models, "model", nil, "`model` for texts, or several in the order in which they are tried")
	f.StringVar(&flags.profile, "profile", "", "routing profile of the configuration, for texts")
	f.StringVar(&flags.tier, "tier", "", "tier of the configuration, for texts")
	f.StringVar(&flags.promptFile, "prompt-file", "", "`file` with the prompt, in which {{input}} is the text, in place of the task type's")
	f.StringVar(&flags.textField, "text-field", "", "field or column of the text (default \"text\")")
	f.StringVar(&flags.idField, "id-field", "", "field or column of the id (default \"id\" where there is one, else the line's number)")
	f.StringVar(&flags.tenant, "tenant", catalog.DefaultTenant, "who pays")
	f.StringVar(&flags.webhook, "webhook", "", "`url` that is told of the batch's end (default: what the tenant has subscribed)")
	f.StringVar(&flags.webhookSecret, "webhook-secret", "", "`name` of the secret that signs it (default \"default\")")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what it would take - jobs, tokens, cost, time - and do nothing")
	f.Float64Var(&flags.maxCost, "max-cost", 0, "what all calls may cost, in US `dollars`, earlier runs of the same files included: no line is\nbegun that could pass it (default: no limit)")
	f.BoolVar(&flags.overwrite, "overwrite", false, "replace a file for the answers that no run of this command has begun")
	f.BoolVar(&flags.retryFailed, "retry-failed", false, "do the lines again that failed before")
	f.BoolVar(&flags.local, "local", false, "run a whole deployment in this process: simulated, or with the endpoints of --config")
	f.StringVar(&flags.data, "data", "", "`folder` in which the Redis of --local keeps everything (default: that of the journal)")
	return cmd
}

// check refuses what the flags cannot be.
func (f batchRunFlags) check(cmd *cobra.Command) error {
	switch {
	case f.out == "" && !f.dryRun:
		return refuseUsage(cmd, "name the file for the answers with -o")
	case f.output != "" && !slices.Contains(batchio.Styles(), batchio.Style(f.output)):
		return refuseUsage(cmd, "--output must be result, text, response or openai, got %q", f.output)
	case f.format != "" && !slices.Contains(batchio.Formats(), batchio.Format(f.format)):
		return refuseUsage(cmd, "--format must be openai, jobs, jsonl, csv, tsv or folder, got %q", f.format)
	case cmd.Flags().Changed("max-cost") && f.maxCost <= 0:
		return refuseUsage(cmd, "--max-cost must be more than 0, got %g", f.maxCost)
	case f.data != "" && !f.local:
		return refuseUsage(cmd, "--data belongs to --local")
	case f.tenant == "":
		return refuseUsage(cmd, "--tenant must be a name")
	}
	return nil
}

func (f batchRunFlags) asks() bool {
	return f.taskType != "" || f.profile != "" || f.tier != "" || len(f.models) > 0
}

func runBatch(cmd *cobra.Command, input string, flags batchRunFlags) error {
	if err := flags.check(cmd); err != nil {
		return err
	}
	format := batchio.Format(flags.format)
	if format == "" {
		var err error
		if format, err = batchio.Detect(input, flags.asks()); err != nil {
			return err
		}
	}
	if !format.Brings() && !flags.asks() {
		return refuseUsage(cmd, "%s is read as %s, whose texts need a --type (or --tier, --profile, --model)", input, format)
	}
	in := batchio.Config{Path: input, Format: format, TextField: flags.textField, IDField: flags.idField}
	style := batchio.Style(cmp.Or(flags.output, string(styleOf(format, flags.out))))
	if err := checkOut(cmd, input, style, flags); err != nil {
		return err
	}
	site, err := openBatchSite(cmd, flags)
	if err != nil {
		return err
	}
	err = errors.Join(site.run(cmd, in, style, flags))
	return errors.Join(err, site.close())
}

// styleOf is what is written where nothing is said.
func styleOf(format batchio.Format, out string) batchio.Style {
	if format == batchio.FormatOpenAI && !strings.HasSuffix(strings.ToLower(out), ".csv") {
		return batchio.StyleOpenAI
	}
	return batchio.StyleResult
}

// batchWebhooks are those that are told of the batch's end.
func batchWebhooks(cmd *cobra.Command, known *catalog.Catalog, flags batchRunFlags) ([]tasks.Webhook, error) {
	webhook, err := withWebhook(cmd, nil, flags.webhook, flags.webhookSecret)
	if err == nil {
		err = known.CheckWebhook(flags.tenant, webhook, tasks.BatchEvents())
	}
	if err != nil {
		return nil, err
	}
	return known.BatchWebhooks(flags.tenant, webhook), nil
}

// run runs the batch, or says what it would take.
func (s *batchSite) run(cmd *cobra.Command, in batchio.Config, style batchio.Style, flags batchRunFlags) error {
	var err error
	if in.JobOfText, err = jobOfText(cmd, flags, s.catalog); err != nil {
		return err
	}
	in.JobOfCall = func(url string, body json.RawMessage) (tasks.Job, error) {
		return batchlines.JobOf(url, body, s.catalog)
	}
	webhooks, err := batchWebhooks(cmd, s.catalog, flags)
	if err != nil {
		return err
	}
	if flags.dryRun {
		return s.quote(cmd, in, flags)
	}
	journal, err := filerun.OpenJournal(flags.out + journalSuffix)
	if err != nil {
		return err
	}
	defer func() { _ = journal.Close() }() // what counts is on the disk
	display := newBatchDisplay(cmd.ErrOrStderr(), s.notes)
	watching, stop := context.WithCancel(cmd.Context())
	defer stop()
	s.watch(watching, func() int { return display.last().Ended() })
	report, err := filerun.Run(tracedByCaller(cmd.Context()), filerun.Config{
		Client: s.client, Catalog: s.catalog, Journal: journal, Input: in, Out: flags.out, Errors: flags.out + errorsSuffix, Style: style,
		Tenant: flags.tenant, MaxCostUSD: flags.maxCost, RetryFailed: flags.retryFailed, Watch: display.show,
		Webhooks: webhooks,
	})
	display.close()
	switch {
	case err != nil && cmd.Context().Err() != nil:
		s.tellInterrupted(cmd.ErrOrStderr(), display.last(), flags)
		return errInterrupted
	case err != nil:
		return err
	case wantsJSON(cmd):
		err = printJSON(cmd, report)
	default:
		err = tellBatch(cmd.OutOrStdout(), report, s.simulated())
	}
	if err == nil && report.Succeeded < report.Lines {
		err = errTold
	}
	return err
}

func tellBatch(out io.Writer, r filerun.Report, simulated string) error {
	fmt.Fprintf(out, "%d of %d lines succeeded, %d failed, %d could not be jobs; %.0f s.\n", r.Succeeded, r.Lines, r.Failed, r.Refused, r.Seconds)
	fmt.Fprintf(out, "cost     %s in all, %s of it now%s\n", dollars(r.CostUSD), dollars(r.PaidUSD), simulated)
	if r.Kept > 0 {
		fmt.Fprintf(out, "kept     %d answers of earlier runs\n", r.Kept)
	}
	fmt.Fprintf(out, "answers  %s\n", r.Output)
	switch {
	case r.Errors != "" && r.Failed > 0:
		fmt.Fprintf(out, "errors   %s: what did not succeed, and why; start it again with --retry-failed to do those lines again\n", r.Errors)
	case r.Errors != "":
		fmt.Fprintf(out, "errors   %s: which lines could not be jobs, and why; mend them and start it again, which does them alone\n", r.Errors)
	}
	_, err := fmt.Fprintf(out, "journal  %s%s: keep it to go on with a changed input, or delete it\n", r.Output, journalSuffix)
	return err
}

func (s *batchSite) tellInterrupted(out io.Writer, p filerun.Progress, flags batchRunFlags) {
	fmt.Fprintf(out, "interrupted: %d of %d lines have ended.\n", p.Ended(), p.Lines-p.Refused)
	if !p.Fed {
		fmt.Fprintln(out, "Not all lines are enqueued yet.")
	}
	if !flags.local && p.Batch != "" {
		fmt.Fprintf(out, "What was enqueued goes on in the deployment: batch %s. `forebay batch cancel %s` ends it.\n", p.Batch, p.Batch)
	}
	fmt.Fprintln(out, "Start the same command again to go on; nothing is paid for twice.")
}
