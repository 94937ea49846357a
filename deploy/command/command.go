// Package command is the command line: one file per subcommand, and what they share.
//
// Results go to standard output, everything else to standard error. What goes wrong is one line that says where and
// what to do; the exit status is then 1, or 2 when the command itself was not understood. With --json every result is
// one JSON document; errors are the same lines of text as without.
package command

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is that of a shell's command that Ctrl-C ended.
	exitInterrupted = 130
)

// The global flags.
const (
	flagConfig    = "config"
	flagRedis     = "redis"
	flagJSON      = "json"
	flagLogLevel  = "log-level"
	flagLogFormat = "log-format"
)

// Main runs one command line, without the program's name, and returns the exit status of the process. The command's
// context ends with ctx or by the first SIGINT or SIGTERM; the second one ends the process, unless the command gives
// it a meaning of its own.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// go-redis writes its own lines to standard error; what matters of them comes back as errors.
	logging.Disable()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()

	root, begun := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	failed, err := root.ExecuteContextC(ctx)
	if err != nil && !*begun && !errors.As(err, new(*usageError)) {
		err = refuseUsage(failed, "%s", err)
	}
	return report(stderr, err)
}

// newRoot returns the whole command line, and a flag that is set once a command has been understood and begins:
// whatever is refused before is a mistake in its use.
func newRoot() (root *cobra.Command, begun *bool) {
	begun = new(bool)
	root = &cobra.Command{
		Use:   "forebay",
		Short: "A durable queue for LLM work on Redis",
		Long: `Forebay puts completion jobs into Redis, and its workers let them through to the cheapest
model and the first regional endpoint that can do the work.

Results go to standard output, and errors to standard error: one line of text each, also with --json. The exit
status is 0, 1 for what failed, and 2 for a command line that was not understood.

Try it with nothing installed:  forebay demo`,
		Version:           strings.TrimPrefix(buildVersion().String(), "forebay "),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			*begun = true
			return checkLogFlags(cmd)
		},
	}
	root.SetVersionTemplate("forebay {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.String(flagConfig, "", "configuration `file` (default: FOREBAY_CONFIG, else ./"+defaultConfigPath+" where it exists)")
	flags.String(flagRedis, "", "`URL` of Redis, such as redis://localhost:6379/0; goes before the configuration's\n(FOREBAY_REDIS_URL does the same, and is the place for a URL with a password)")
	flags.Bool(flagJSON, false, "print results as JSON; errors stay lines of text on standard error")
	flags.String(flagLogLevel, "", "debug, info, warn or error (default: the configuration's, else info)")
	flags.String(flagLogFormat, "", "console, json, or auto: console on a terminal, else json (default: the configuration's,\nelse auto)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && cmd.Flags().NArg() > 0 {
			return unknownCommand(cmd, cmd.Flags().Args())
		}
		return refuseUsage(cmd, "%s", flagProblem(cmd, err))
	})
	root.AddCommand(
		newDemoCommand(), newDevCommand(), newWorkerCommand(), newProducerCommand(), newSchedulerCommand(), newEnqueueCommand(),
		newGetCommand(), newCancelCommand(), newJobsCommand(), newWebhooksCommand(), newBatchCommand(), newStatusCommand(), newQueueCommand(), newBreakerCommand(), newAlertsCommand(),
		newCostCommand(), newKeysCommand(), newScheduleCommand(), newDoctorCommand(),
		newSimulateCommand(), newConfigCommand(), newVersionCommand(),
	)
	root.AddCommand(laterCommands()...)
	asGroup(root)
	return root, begun
}

// asGroup makes a command of its subcommands only: alone it shows its help, and refuses what it does not have.
func asGroup(cmd *cobra.Command) {
	cmd.Args = unknownCommand
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// unknownCommand refuses the first argument of a group: a subcommand would have been found.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := ""
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		meant = ", did you mean " + strings.Join(names, " or ") + "?"
	}
	return refuseUsage(cmd, "unknown command %q%s", args[0], meant)
}
