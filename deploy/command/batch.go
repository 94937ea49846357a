package command

import (
	"github.com/spf13/cobra"
)

func newBatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "Batches: how they stand, and cancel them or run their failures again",
	}
	cmd.AddCommand(newBatchListCommand(), newBatchStatusCommand(), newBatchCancelCommand(), newBatchRetryCommand())
	asGroup(cmd)
	return cmd
}
