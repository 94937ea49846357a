package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

func newCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "End a job that is not done yet",
		Long: `End a job. One that waits ends at once; one that runs is ended by its worker, and may still succeed when its
answer is on its way. The exit status is 1 when the job had ended otherwise before.`,
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
			result, err := jobs.Cancel(cmd.Context(), args[0])
			if err != nil && (!errors.Is(err, producer.ErrUnreadable) || result.ID == "") { // for that it need not be read
				return err
			}
			if wantsJSON(cmd) {
				err = printJSON(cmd, result)
			} else {
				err = printCancel(cmd, result)
			}
			if err == nil && result.Status.Ended() && result.Status != tasks.StatusCancelled {
				err = fmt.Errorf("job %s was not cancelled: it had ended before as %s", result.ID, result.Status)
			}
			return err
		},
	}
}

func printCancel(cmd *cobra.Command, result tasks.Result) error {
	var err error
	switch {
	case result.Status == tasks.StatusCancelled:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "job %s is cancelled\n", result.ID)
	case !result.Status.Ended():
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "job %s is %s; its worker was asked to end it\n", result.ID, result.Status)
	}
	return err
}
