package command

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/ops"
	"github.com/forebay-queue/forebay/producer/httpapi"
)

const flagOpsListen = "ops-listen"

// addOpsListen gives a command the flag for its listener of health and metrics.
func addOpsListen(cmd *cobra.Command) {
	cmd.Flags().String(flagOpsListen, "", "`address` of /healthz, /readyz and /metrics; port 0 takes a free one, off none\n(default: the configuration's ops.listen, "+config.DefaultOpsListen+")")
}

// checkOpsListen refuses an address that cannot be read.
func checkOpsListen(cmd *cobra.Command) error {
	address, _ := cmd.Flags().GetString(flagOpsListen)
	if err := httpapi.CheckListen(address); err != nil {
		return refuseUsage(cmd, "--%s: %s", flagOpsListen, err)
	}
	if cmd.Flags().Changed(flagOpsListen) && address == "" {
		return refuseUsage(cmd, "--%s must be an address such as %s, or off", flagOpsListen, config.DefaultOpsListen)
	}
	return nil
}

// newRegistry is the registry of this process, which works by a configuration that may change, or, with nil, without one.
func newRegistry(changes *live) *prometheus.Registry {
	build := buildVersion()
	registry := ops.NewRegistry(ops.Build{Version: build.Version, Commit: build.Commit, GoVersion: build.Go})
	changes.counted(registry)
	return registry
}

// listenOps takes the address of the flag, else of the configuration, else the default one; it returns nil for none.
//
// A configuration serves all processes of a deployment, and several of them may run on one machine: where the address
// that is not the flag's is taken, the process goes on without.
func (s *settings) listenOps(cmd *cobra.Command, log zerolog.Logger) (net.Listener, error) {
	address, _ := cmd.Flags().GetString(flagOpsListen)
	given := address != ""
	switch {
	case given:
	case s.file != nil:
		address = s.file.Ops.Listen
	default:
		address = config.DefaultOpsListen
	}
	if address == config.Off {
		return nil, nil //nolint:nilnil // nobody is to listen
	}
	listener, err := httpapi.Listen(cmd.Context(), address)
	if err != nil && !given && errors.Is(err, syscall.EADDRINUSE) {
		log.Warn().Str("address", address).Msgf("health and metrics are not served: another process has the address; give this one its own with --%s, or off", flagOpsListen)
		return nil, nil //nolint:nilnil // it is told
	}
	return listener, err
}

// serveOps answers on what listenOps has taken, until the function it returns is called.
func serveOps(listener net.Listener, settings ops.Config) (end func()) {
	if listener == nil {
		return func() {}
	}
	ready := settings.Ready
	settings.Ready = func(ctx context.Context) error {
		if err := ready(ctx); err != nil {
			return redisProblem(err)
		}
		return nil
	}
	return ops.Start(listener, settings).Close
}
