package command

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/letgo"
)

// breakersReply is what `forebay breaker list --json` prints.
type breakersReply struct {
	Endpoints []endpointStatus `json:"endpoints"`
}

func newBreakerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "breaker",
		Short: "Show the endpoints' breakers, and open or close one by hand",
		Long: `Show the endpoints' breakers, which all workers share, and open or close one by hand. That holds for the whole
fleet at once. Calls that are out finish; what they report no longer changes the breaker.`,
	}
	cmd.AddCommand(newBreakerListCommand(), newBreakerOpenCommand(), newBreakerCloseCommand())
	asGroup(cmd)
	return cmd
}

func newBreakerListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show all breakers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onBreakers(cmd, func(ctx context.Context, b *breakers) error {
				endpoints, err := b.read(ctx)
				switch {
				case err != nil:
					return err
				case wantsJSON(cmd):
					return printJSON(cmd, breakersReply{endpoints})
				}
				return printEndpoints(cmd.OutOrStdout(), endpoints, time.Now())
			})
		},
	}
}

func newBreakerOpenCommand() *cobra.Command {
	var period time.Duration
	cmd := &cobra.Command{
		Use:   "open ENDPOINT",
		Short: "Keep all workers away from an endpoint",
		Long: `Open the breaker of an endpoint: no worker calls it until the time is over. Then one call tries it, as with a
breaker that opened by itself. An open breaker gets the new time, though it be shorter.`,
		Args: oneEndpoint,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("for") && period < time.Second {
				return refuseUsage(cmd, "--for must be at least 1s, got %s", period)
			}
			return force(cmd, args[0], func(ctx context.Context, g *gate.Gate, endpoint gate.Endpoint) (bool, error) {
				return g.Open(ctx, endpoint, period)
			})
		},
	}
	cmd.Flags().DurationVar(&period, "for", 0, "how long, such as 10m (default: the configuration's breaker.long_recovery, 10m)")
	return cmd
}

func newBreakerCloseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "close ENDPOINT",
		Short: "Let all workers call an endpoint again",
		Long: `Close the breaker of an endpoint without a probe. The failures in a row stay counted: where they were enough to
open it, one more opens it again. The jobs that waited for it go on at once.`,
		Args: oneEndpoint,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := force(cmd, args[0], func(ctx context.Context, g *gate.Gate, endpoint gate.Endpoint) (bool, error) {
				return g.Close(ctx, endpoint)
			})
			if err != nil {
				return err
			}
			return onBreakers(cmd, func(ctx context.Context, b *breakers) error { return b.letGo(ctx, args[0]) })
		},
	}
}

// letGo has all jobs delivered that wait for the breaker of an endpoint.
func (b *breakers) letGo(ctx context.Context, endpoint string) error {
	store, err := jobstore.New(jobstore.Config{Redis: b.client, Prefix: b.keys.Prefix()})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	_, err = letgo.Jobs(ctx, b.client, store, endpoint, math.MaxInt32, math.MaxInt32)
	return err
}

func oneEndpoint(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return refuseUsage(cmd, "takes the name of one endpoint, got %d arguments", len(args))
	}
	return nil
}

// breakers are those of a configuration's endpoints, with the connection to them.
type breakers struct {
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	catalog *catalog.Catalog
}

func onBreakers(cmd *cobra.Command, do func(ctx context.Context, b *breakers) error) error {
	s, err := requireSettings(cmd)
	if err != nil {
		return err
	}
	return s.onRedis(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
		return do(ctx, &breakers{client, keyspace.New(s.prefix), &s.file.Catalog})
	})
}

func (b *breakers) read(ctx context.Context) ([]endpointStatus, error) {
	return readEndpoints(ctx, b.client, b.keys, b.catalog)
}

// force changes the breaker of one endpoint and shows what it is then.
func force(cmd *cobra.Command, name string, change func(context.Context, *gate.Gate, gate.Endpoint) (bool, error)) error {
	return onBreakers(cmd, func(ctx context.Context, b *breakers) error {
		endpoint := b.catalog.Endpoints[name]
		if endpoint == nil {
			return unknownName("endpoint", name, slices.Sorted(maps.Keys(b.catalog.Endpoints)))
		}
		changed, err := change(ctx, gate.New(b.client, b.keys, b.catalog), gate.Endpoint{Account: endpoint.Account, Name: name})
		if err != nil {
			return err
		}
		endpoints, err := b.read(ctx)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(endpoints, func(e endpointStatus) bool { return e.Endpoint == name })
		if wantsJSON(cmd) {
			return printJSON(cmd, endpoints[at])
		}
		return printForced(cmd, endpoints[at], changed)
	})
}

func printForced(cmd *cobra.Command, e endpointStatus, changed bool) error {
	before := "was before as well"
	if changed {
		before = "was not before"
	}
	state := string(e.State)
	if e.Until != nil {
		state += " until " + clock(*e.Until, time.Now())
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "the breaker of %s is %s; it %s\n", e.label(), state, before)
	return err
}

// unknownName refuses a name that the configuration does not have.
func unknownName(what, name string, known []string) error {
	if meant, found := catalog.Nearest(name, known); found {
		return fmt.Errorf("no %s %q, did you mean %q?", what, name, meant)
	}
	return fmt.Errorf("no %s %q; there are %s", what, name, strings.Join(known, ", "))
}
