package command

import (
	"github.com/spf13/cobra"
)

func newBatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "Batches: run a file of lines, see how batches stand, cancel them or run their failures again",
	}
	cmd.AddCommand(newBatchRunCommand(), newBatchListCommand(), newBatchStatusCommand(), newBatchCancelCommand(), newBatchRetryCommand())
	asGroup(cmd)
	return cmd
}
