package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/sandbox/corpus"
	"github.com/forebay-queue/forebay/deploy/sandbox/demo"
)

// Documents are the project's own documents, which only package main can embed: what the demonstration summarises
// where it finds no others. It may be nil.
var Documents fs.FS

// demoFlags are those of `forebay demo`.
type demoFlags struct {
	keep  bool
	limit int
	pace  string
}

func newDemoCommand() *cobra.Command {
	var flags demoFlags
	cmd := &cobra.Command{
		Use:   "demo [DIR]",
		Short: "Summarise real documents on simulated endpoints, one of which fails half-way",
		Long: `Start a whole deployment in this process - an embedded Redis, a worker, three simulated regional endpoints - and
summarise documents with it: one job for each text file below DIR or, without DIR, for each section of the READMEs of
Forebay's own dependencies. Half-way the first region goes down, its breaker opens, and it recovers. It takes about
45 seconds. Nothing is called, nothing is billed, nothing is left behind.

The exit status is 0 when all jobs succeeded, the breaker tripped, was probed and recovered, and the simulated
endpoints' own counters agree with the results, and else 1. Ctrl-C or SIGTERM ends it at any time; the exit status is
130 where it has not been completed.`,
		Example: `  forebay demo
  forebay demo ~/notes
  forebay demo --keep`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return refuseUsage(cmd, "takes one folder at most, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDemo(cmd, args, flags)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&flags.keep, "keep", false, "leave the deployment running afterwards, and print its addresses")
	f.IntVar(&flags.limit, "limit", 0, "summarise `N` documents at most")
	f.StringVar(&flags.pace, "pace", "show", "`show`, or fast: some ten seconds")
	_ = f.MarkHidden("pace") // for tests; the flag is there
	return cmd
}

func (f demoFlags) paceOf(cmd *cobra.Command) (demo.Pace, error) {
	switch f.pace {
	case "show":
		return demo.PaceShow, nil
	case "fast":
		return demo.PaceFast, nil
	}
	return demo.Pace{}, refuseUsage(cmd, "--pace must be show or fast, got %q", f.pace)
}

func runDemo(cmd *cobra.Command, args []string, flags demoFlags) error {
	pace, err := flags.paceOf(cmd)
	if err != nil {
		return err
	}
	if flags.limit < 0 {
		return refuseUsage(cmd, "--limit must be positive, got %d", flags.limit)
	}
	out, log := demoOutput(cmd)
	documents, err := demoCorpus(cmd.Context(), args)
	switch {
	case err != nil && cmd.Context().Err() != nil:
		fmt.Fprint(out, "\ninterrupted while the documents were gathered.\n")
		return errInterrupted
	case err != nil:
		return err
	}
	if flags.limit > 0 && flags.limit < len(documents.Documents) {
		documents.Documents = documents.Documents[:flags.limit]
	}
	tellDemo(out, documents)
	err = showDemo(cmd, demo.Config{Corpus: documents, Pace: pace, Out: out, Log: log}, flags.keep)
	if interrupted := new(demo.Interrupted); errors.As(err, &interrupted) {
		fmt.Fprintf(out, "\n%s.\n", interrupted)
		return errInterrupted
	}
	return err
}

// demoOutput is where the progress goes: to standard error when standard output is for JSON. The log is silent unless
// it is asked for; then the progress is plain lines, which it does not overwrite.
func demoOutput(cmd *cobra.Command) (io.Writer, zerolog.Logger) {
	out := cmd.OutOrStdout()
	if wantsJSON(cmd) {
		out = cmd.ErrOrStderr()
	}
	if !cmd.Flags().Changed(flagLogLevel) {
		return out, zerolog.Nop()
	}
	return struct{ io.Writer }{out}, newLog(cmd, config.Log{})
}

func demoCorpus(ctx context.Context, args []string) (*corpus.Corpus, error) {
	if len(args) == 1 {
		return corpus.Folder(args[0])
	}
	return corpus.Default(ctx, Documents)
}

func tellDemo(out io.Writer, documents *corpus.Corpus) {
	fmt.Fprintf(out, "%d documents: %s.\n", len(documents.Documents), documents.Origin)
	for _, note := range documents.Notes {
		fmt.Fprintf(out, "  %s\n", printable(note))
	}
	fmt.Fprint(out, `Everything runs in this process: an embedded Redis (not durable), a worker, and three simulated
endpoints. No provider is called, and nothing is billed. Ctrl-C ends it.

`)
}

// showDemo runs the demonstration and ends it, after a signal if it is to be kept.
func showDemo(cmd *cobra.Command, config demo.Config, keep bool) (err error) {
	ctx := cmd.Context()
	d, err := demo.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		// What still runs then is of no use to anybody.
		ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		err = errors.Join(err, d.Close(ended))
	}()
	report, err := d.Run(ctx)
	if err != nil {
		return err
	}
	if wantsJSON(cmd) {
		err = printJSON(cmd, report)
	} else {
		err = report.Write(config.Out)
	}
	if err = errors.Join(err, report.Err()); err != nil {
		return err
	}
	if !keep {
		tellNext(config.Out)
		return nil
	}
	return stay(cmd, running{sandbox: d.Sandbox, job: report.AnyJob()}, config.Out)
}

// tellNext says how to go on with a real provider.
func tellNext(out io.Writer) {
	fmt.Fprintf(out, `
Try it for real, with a Redis on this machine:

  %[1]s config init                     # writes forebay.yaml, in which every value is explained
  export HOLYSHEEP_API_KEY=... OPENAI_API_KEY=...
  %[1]s config check
  %[1]s worker                          # in a terminal of its own
  %[1]s enqueue --type fast_summary --file README.md --wait

Without a Redis: %[1]s dev --config forebay.yaml
`, program())
}
