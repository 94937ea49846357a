package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks/seal"
)

// newEncryptionKeyReply is what `forebay config new-key --json` prints.
type newEncryptionKeyReply struct {
	// Key is shown here and kept nowhere.
	Key string `json:"key"`
}

func newConfigNewKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new-key",
		Short: "Make a key for the encryption at rest and show it, this once",
		Long: `Make a key for the encryption at rest and show it, this once: 32 random bytes in base64. Put it into an environment
variable or a file of every process, and name that under encryption.keys of the configuration, which never holds the key
itself. What is sealed under a key is lost with it.`,
		Example: `  forebay config new-key > /run/secrets/forebay-key-1
  export FOREBAY_KEY_1=$(forebay config new-key)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key := seal.NewKey()
			if wantsJSON(cmd) {
				return printJSON(cmd, newEncryptionKeyReply{key})
			}
			// The key alone goes to standard output, so that it can be put where it belongs without being seen.
			fmt.Fprint(cmd.ErrOrStderr(), `A key for the encryption at rest. It is kept nowhere: what is sealed under it is lost with it. Name where you put it:
  encryption:
    keys:
      - {id: k1, env: FOREBAY_KEY_1}   # or file: /run/secrets/forebay-key-1
The first key seals, all of them open: to rotate, add the new one behind the others in every process, then move it to the front.
`)
			_, err := fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
}
