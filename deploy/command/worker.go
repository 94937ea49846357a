package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/ops"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/worker"
)

func newWorkerCommand() *cobra.Command {
	var slots int
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Do the jobs of the queues",
		Long: `Take jobs from the queues and do them, until a signal comes. The first SIGINT or SIGTERM takes nothing new and
lets the calls that are out finish, for as long as the configuration's drain_timeout says; the second gives them up
and gives their jobs back to the other workers.

` + reloadNote,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOpsListen(cmd); err != nil {
				return err
			}
			s, err := requireSettings(cmd)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("slots") {
				slots = s.file.Worker.Slots
			}
			if slots < 1 || slots > 10_000 {
				return refuseUsage(cmd, "--slots must be 1 to 10000, got %d", slots)
			}
			return runWorker(cmd, s, slots)
		},
	}
	cmd.Flags().IntVar(&slots, "slots", 0, "how many jobs at once (default: the configuration's, 16)")
	addOpsListen(cmd)
	return cmd
}

func runWorker(cmd *cobra.Command, s *settings, slots int) error {
	log := newLog(cmd, s.file.Log)
	live := newLive(cmd, s.path, s.file, fleet.Worker, log)
	if problems := config.Check(s.file); len(problems) > 0 {
		tellProblems(cmd, problems)
		return errTold
	}
	sealer, err := s.sealer()
	if err != nil {
		return err
	}
	flush, err := exportTraces(cmd.Context(), s.file, "worker", log)
	if err != nil {
		return err
	}
	defer flush()
	listener, err := s.listenOps(cmd, log)
	if err != nil {
		return err
	}
	registry := newRegistry(live)
	client, err := s.connect(cmd.Context(), worker.Connections(slots, s.file.Catalog.Webhooks.Slots, s.shards()))
	if err != nil {
		return err
	}
	defer client.Close()
	client.AddHook(metrics.RedisHook(registry))
	member := join(client, s.prefix, fleet.Worker)
	w, err := worker.New(worker.Config{
		Redis: client, Prefix: s.prefix, Sealer: sealer, Catalog: &s.file.Catalog, Slots: slots,
		Shards: s.shards(), DrainTimeout: s.file.Worker.DrainTimeout, Version: buildVersion().Version, Registerer: registry, Log: log,
		Member: member, TraceContent: s.file.Tracing.Content == config.On, TraceUpstream: s.file.Tracing.Upstream == config.On,
	})
	if err != nil {
		return err
	}
	log.Info().Str("redis", redisAddress(s.redis)).Str("config", s.path).Int("endpoints", len(s.file.Catalog.Endpoints)).
		Msg("connected")
	defer serveOps(listener, ops.Config{Process: "worker", Healthy: w.Healthy, Ready: w.Ready, Metrics: registry, Log: log})()
	defer secondSignal(cmd.Context(), w, log)()
	defer live.watch(cmd.Context(), member, func(file *config.File) error { return w.Reload(&file.Catalog) })()
	collectLess()
	if err := w.Run(cmd.Context()); err != nil {
		return fmt.Errorf("run the worker: %w", err)
	}
	return nil
}

// workerGC is the GOGC of a worker that has none in its environment. Nearly all that a worker allocates is garbage once
// its job is done, and little stays: four times a small heap buys a tenth of the processor time. GOMEMLIMIT bounds it.
const workerGC = 400

func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(workerGC)
	}
}

// secondSignal gives the signals after the first, which ends the context, their meaning: the next gives the running
// jobs back, a third ends the process. The function returned undoes it.
func secondSignal(ctx context.Context, w *worker.Worker, log zerolog.Logger) func() {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		log.Info().Msg("stopping: calls that are out are let finish; a second signal gives them up")
		received := 0
		for {
			select {
			case <-signals:
				// The first is the one that ended the context.
				if received++; received < 2 {
					continue
				}
				signal.Stop(signals)
				log.Warn().Msg("giving up: running jobs go back to the queue")
				w.Abort()
				return
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
