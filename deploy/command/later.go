package command

import (
	"github.com/spf13/cobra"
)

// later are the commands of the design that this build does not have. They are refused by name.
var later = []string{
	"bench",
}

func laterCommands() []*cobra.Command {
	commands := make([]*cobra.Command, len(later))
	for i, name := range later {
		commands[i] = &cobra.Command{
			Use: name, Short: "Not available yet", Hidden: true, DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return &usageError{"`" + cmd.CommandPath() + "` is not available yet; `forebay --help` lists what is"}
			},
		}
	}
	return commands
}
