package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/ops"
	"github.com/forebay-queue/forebay/scheduler"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/metrics"
)

// schedulerConnections are a listening one, one for the lease, two for the work.
const schedulerConnections = 5

func newSchedulerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scheduler",
		Short: "Do what must happen once: mend the queues after crashes, probe the endpoints",
		Long: `Stand for leader of the deployment, and act while leading, until a signal comes: give the deliveries of dead workers
to others within 20 s, mend what crashes have left half-written, end jobs that are past their deadline, have the
endpoints of the configuration probed, make the jobs of schedules, and tell the channels of the configuration of what is wrong.
Without a configuration it does not do the last three. Run two of them, on two machines: one acts, and
the other takes over within seconds when it dies.

` + reloadNote,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOpsListen(cmd); err != nil {
				return err
			}
			s, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			return runScheduler(cmd, s)
		},
	}
	addOpsListen(cmd)
	return cmd
}

func runScheduler(cmd *cobra.Command, s *settings) error {
	var logging config.Log
	if s.file != nil {
		logging = s.file.Log
	}
	log := newLog(cmd, logging)
	var live *live
	if s.file != nil {
		live = newLive(cmd, s.path, s.file, fleet.Scheduler, log)
	}
	sealer, err := s.sealer()
	if err != nil {
		return err
	}
	flush, err := exportTraces(cmd.Context(), s.file, "scheduler", log)
	if err != nil {
		return err
	}
	defer flush()
	listener, err := s.listenOps(cmd, log)
	if err != nil {
		return err
	}
	registry := newRegistry(live)
	client, err := s.connectToServe(cmd.Context(), schedulerConnections, log)
	if err != nil {
		return err
	}
	defer client.Close()
	client.AddHook(metrics.RedisHook(registry))
	settings := scheduler.Config{Redis: client, Prefix: s.prefix, Sealer: sealer, Shards: s.shards(), Registerer: registry, Log: log}
	if s.file != nil {
		settings.Plan = planOf(s.file)
	} else {
		log.Info().Msg("no endpoint is probed, and no schedule makes jobs: there is no configuration")
	}
	standing, err := scheduler.New(settings)
	if err != nil {
		return err
	}
	log.Info().Str("redis", redisAddress(s.redis)).Str("config", s.path).Msg("connected")
	member := join(client, s.prefix, fleet.Scheduler)
	defer live.watch(cmd.Context(), member, func(file *config.File) error { return standing.Reload(planOf(file)) })()
	defer beat(cmd.Context(), member, log)()
	defer serveOps(listener, ops.Config{Process: "scheduler", Healthy: standing.Healthy, Ready: standing.Ready, Metrics: registry, Log: log})()
	if err := standing.Run(cmd.Context()); err != nil {
		return fmt.Errorf("run the scheduler: %w", err)
	}
	return nil
}

// planOf is what the scheduler takes of a configuration.
func planOf(file *config.File) scheduler.Plan {
	return scheduler.Plan{Catalog: &file.Catalog, Schedules: file.Recurring(), HealthInterval: healthInterval(file.Health), Alerts: file.AlertSettings()}
}

// healthInterval is the configuration's, as the scheduler takes it.
func healthInterval(settings config.Health) time.Duration {
	if settings.Probes == config.Off {
		return scheduler.NoHealthProbes
	}
	return settings.Interval
}
