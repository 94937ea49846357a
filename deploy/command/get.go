package command

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
)

func newGetCommand() *cobra.Command {
	var wait, text bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Show how a job stands, or its answer",
		Long: `Show how a job stands: its status, what was called for it and what that cost, and its answer; with --text the
answer's text alone, with --json everything, the provider's response included.

The exit status is 1 for a job that is not there; with --wait or --text also for one that did not succeed.`,
		Args: exactID,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 || timeout > 0 && !wait {
				return refuseUsage(cmd, "--timeout must be positive, and belongs to --wait")
			}
			if text && wantsJSON(cmd) {
				return refuseUsage(cmd, "--text stands beside --json; give one of them")
			}
			result, s, err := readJob(cmd, args[0], wait, timeout)
			switch {
			case err != nil:
				return err
			case text:
				return printText(cmd, result)
			case wantsJSON(cmd):
				err = printJSON(cmd, result)
			default:
				err = printResult(cmd.OutOrStdout(), result, s.simulated(result), time.Now())
			}
			if err == nil && wait {
				err = unsuccessful(result)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the job's end")
	cmd.Flags().BoolVar(&text, "text", false, "print the answer's text only")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait at most (default: as long as it takes)")
	return cmd
}

// exactID is the argument of the commands that are about one job.
func exactID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return refuseUsage(cmd, "takes the id of one job, got %d arguments", len(args))
	}
	return nil
}

// readJob reads how a job stands, or waits for its end.
func readJob(cmd *cobra.Command, id string, wait bool, timeout time.Duration) (tasks.Result, *settings, error) {
	s, err := loadSettings(cmd)
	if err != nil {
		return tasks.Result{}, nil, err
	}
	jobs, err := openJobs(cmd, s)
	if err != nil {
		return tasks.Result{}, nil, err
	}
	defer jobs.close()
	if wait {
		result, err := jobs.wait(cmd, id, timeout)
		return result, s, err
	}
	result, err := jobs.Get(cmd.Context(), id)
	return result, s, err
}
