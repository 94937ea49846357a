package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// keyReply is a key as `forebay keys` prints it with --json.
type keyReply struct {
	apikeys.Key
	Expired bool `json:"expired"`
}

// newKeyReply is what `forebay keys create --json` prints.
type newKeyReply struct {
	keyReply
	// Secret is what the key's owner sends. It is shown here and nowhere else.
	Secret string `json:"secret"`
}

// keysReply is what `forebay keys list --json` prints.
type keysReply struct {
	Keys []keyReply `json:"keys"`
}

// revokedReply is what `forebay keys revoke --json` prints.
type revokedReply struct {
	ID      string `json:"id"`
	Revoked bool   `json:"revoked"`
}

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Create, list and revoke the API keys of the HTTP interface",
		Long: `Create, list and revoke the API keys of the HTTP interface. A key belongs to one tenant, whose jobs alone it sees and
makes, or to an operator. While there are none, the HTTP interface serves this machine only, and asks for none; from the
first on it asks for one everywhere, without a restart.`,
	}
	cmd.AddCommand(newKeysCreateCommand(), newKeysListCommand(), newKeysRevokeCommand())
	asGroup(cmd)
	return cmd
}

func newKeysCreateCommand() *cobra.Command {
	var asked apikeys.Key
	var readOnly bool
	var expires string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a key and show it, this once",
		Long: `Create a key and show it, this once: only a hash of it is kept. Whoever has it sends it as
"Authorization: Bearer <key>", or logs in with it at /login.`,
		Example: `  forebay keys create --tenant acme --name crawler
  forebay keys create --tenant acme --read-only --expires 90d
  forebay keys create --operator`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked.Write = !readOnly
			switch {
			case asked.Operator == (asked.Tenant != ""):
				return refuseUsage(cmd, "give --tenant NAME or --operator, one of them")
			case !asked.Operator && !tasks.ValidName(asked.Tenant):
				return refuseUsage(cmd, "--tenant must be 1 to 64 characters of A-Z a-z 0-9 _ . -, got %.70q", asked.Tenant)
			}
			if cmd.Flags().Changed("expires") {
				period, ok := parsePeriod(expires)
				if !ok {
					return refuseUsage(cmd, "--expires must be a duration such as 90d or 12h, from 1m to 3660d, got %q", expires)
				}
				at := time.Now().Add(period).UTC().Truncate(time.Second)
				asked.ExpiresAt = &at
			}
			return onKeys(cmd, func(ctx context.Context, store *apikeys.Store) error { return createKey(ctx, cmd, store, asked) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&asked.Tenant, "tenant", "", "whose key it is: it sees and makes this `tenant`'s jobs only")
	flags.BoolVar(&asked.Operator, "operator", false, "an operator's key: all tenants' jobs, queues, and /monitor")
	flags.BoolVar(&readOnly, "read-only", false, "the key may change nothing")
	flags.StringVar(&asked.Name, "name", "", "what the key is for, up to 100 characters")
	flags.StringVar(&expires, "expires", "", "how long it holds, such as `90d` (default: until it is revoked)")
	return cmd
}

func createKey(ctx context.Context, cmd *cobra.Command, store *apikeys.Store, asked apikeys.Key) error {
	key, text, err := store.Create(ctx, asked)
	switch {
	case err != nil:
		return err
	case wantsJSON(cmd):
		return printJSON(cmd, newKeyReply{keyReply{Key: key}, text})
	}
	until := "until it is revoked"
	if key.ExpiresAt != nil {
		until = "until " + clock(*key.ExpiresAt, time.Now())
	}
	// The key alone goes to standard output, so that it can be put where it belongs without being seen.
	fmt.Fprintf(cmd.ErrOrStderr(), "API key %s, %s, %s, holds %s. It is shown this once:\n", key.ID, keyOwner(key), keyRights(key), until)
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

func newKeysListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show all keys, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onKeys(cmd, func(ctx context.Context, store *apikeys.Store) error {
				keys, err := store.List(ctx) // what can be read is shown beside what cannot
				now, reply := time.Now(), keysReply{Keys: []keyReply{}}
				for _, key := range keys {
					reply.Keys = append(reply.Keys, keyReply{key, key.Expired(now)})
				}
				show := printKeys(cmd.OutOrStdout(), reply.Keys, now)
				if wantsJSON(cmd) {
					show = func() error { return printJSON(cmd, reply) }
				}
				if err != nil && len(keys) == 0 {
					return err
				}
				if shown := show(); shown != nil {
					return shown
				}
				return err
			})
		},
	}
}

func printKeys(out io.Writer, keys []keyReply, now time.Time) func() error {
	return func() error {
		if len(keys) == 0 {
			fmt.Fprintln(out, "no API keys: the HTTP interface serves this machine only")
			return nil
		}
		list := table(out)
		row(list, "ID", "OF", "MAY", "CREATED", "EXPIRES", "NAME")
		for _, key := range keys {
			expires := "-"
			switch {
			case key.Expired:
				expires = "has expired"
			case key.ExpiresAt != nil:
				expires = clock(*key.ExpiresAt, now)
			}
			row(list, key.ID, keyOwner(key.Key), keyRights(key.Key), clock(key.CreatedAt, now), expires, dash(printable(key.Name)))
		}
		return list.Flush()
	}
}

func newKeysRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Take a key away",
		Long: `Take a key away: by its id, which is the part between the first two "_" of its text. No process lets it in after 5s;
who has logged in with it is logged out. When it was the last key, nobody is let in but on this machine.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return refuseUsage(cmd, "takes the id of one key, got %d arguments", len(args))
			}
			if !apikeys.ValidID(args[0]) { // not repeated: it may be the key itself
				return refuseUsage(cmd, "takes the id of a key, the 16 characters that `forebay keys list` shows, not its text or name")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return onKeys(cmd, func(ctx context.Context, store *apikeys.Store) error {
				revoked, err := store.Revoke(ctx, args[0])
				switch {
				case err != nil:
					return err
				case !revoked:
					return fmt.Errorf("there is no API key %s; `forebay keys list` shows those that there are", args[0])
				case wantsJSON(cmd):
					return printJSON(cmd, revokedReply{args[0], true})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "the API key %s is revoked\n", args[0])
				return err
			})
		},
	}
}

func onKeys(cmd *cobra.Command, do func(ctx context.Context, store *apikeys.Store) error) error {
	return onRedisOf(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
		return do(ctx, apikeys.New(client, keyspace.New(s.prefix)))
	})
}

func keyOwner(key apikeys.Key) string {
	if key.Operator {
		return "operator"
	}
	return "tenant " + key.Tenant
}

func keyRights(key apikeys.Key) string {
	if key.Write {
		return "read and write"
	}
	return "read"
}

// parsePeriod reads a duration, which may also be a number of days: 90d.
func parsePeriod(text string) (time.Duration, bool) {
	const day, shortest, longestDays = 24 * time.Hour, time.Minute, 3660
	period, err := time.ParseDuration(text)
	if number, isDays := strings.CutSuffix(text, "d"); isDays {
		var days int
		days, err = strconv.Atoi(number)
		period = time.Duration(min(max(days, 0), longestDays+1)) * day
	}
	return period, err == nil && period >= shortest && period <= longestDays*day
}
