package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/ops"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/batchrun"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/producer/inbox"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/metrics"
)

const (
	// producerConnections are for requests that talk to Redis at the same time; those who only wait share one.
	producerConnections = 64
	// producerDrain is how long running requests are given at the end.
	producerDrain = 10 * time.Second
)

func newProducerCommand() *cobra.Command {
	var listen, stream string
	cmd := &cobra.Command{
		Use:   "producer",
		Short: "Take jobs in over HTTP and from the inbox, and say how they stand",
		Long: `Serve the HTTP interface until a signal comes: it takes jobs in, answers how they stand, waits for their results and
cancels them. Consume the inbox, too, the stream into which any language writes jobs (docs/ways-in.md), and work on OpenAI's
batches (docs/batches.md). The first SIGINT
or SIGTERM takes nothing new, has those who wait answered with what stands, and gives running requests 10s; the second
ends the process at once. Any number of producers may run.

It asks for an API key; ` + "`forebay keys create`" + ` makes them. While there is none, it listens on loopback only, and serves this
machine without. Asynq's console stands at /monitor, for operators.

` + reloadNote,
		Example: `  forebay producer
  forebay producer --listen 127.0.0.1:9000
  forebay producer --listen off                 # the inbox and batches alone`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := httpapi.CheckListen(listen); err != nil {
				return refuseUsage(cmd, "--listen: %s", err)
			}
			if cmd.Flags().Changed("listen") && listen == "" {
				return refuseUsage(cmd, "--listen must be an address such as 127.0.0.1:8080, or off")
			}
			if err := checkOpsListen(cmd); err != nil {
				return err
			}
			if cmd.Flags().Changed("inbox") && stream != config.On && stream != config.Off {
				return refuseUsage(cmd, "--inbox must be on or off")
			}
			s, err := requireSettings(cmd)
			if err != nil {
				return err
			}
			if stream == "" {
				stream = s.file.Inbox.Enabled
			}
			if listen == "" {
				listen = s.file.HTTP.Listen
				if err := httpapi.CheckListen(listen); err != nil {
					return fmt.Errorf("%s: http.listen: %w; or give another with --listen", s.path, err)
				}
			}
			return runProducer(cmd, s, listen, stream == config.On)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`address` of the HTTP interface; port 0 takes a free one, off none\n(default: the configuration's http.listen, 127.0.0.1:8080)")
	cmd.Flags().StringVar(&stream, "inbox", "", "`on` or off: consume the inbox (default: the configuration's inbox.enabled, on)")
	addOpsListen(cmd)
	return cmd
}

// part is one of the ways in that a producer process opens: run lasts until its context ends, and then until what runs
// has ended.
type part func(ctx context.Context) error

func runProducer(cmd *cobra.Command, s *settings, listen string, inboxOn bool) error {
	if listen == httpapi.ListenOff && !inboxOn && s.file.Batches.Enabled == config.Off {
		return errors.New("there is nothing to do: the HTTP interface, the inbox and the work on batches are off; give an address with --listen, or --inbox on")
	}
	log := newLog(cmd, s.file.Log)
	live := newLive(cmd, s.path, s.file, fleet.Producer, log)
	sealer, err := s.sealer()
	if err != nil {
		return err
	}
	flush, err := exportTraces(cmd.Context(), s.file, "producer", log)
	if err != nil {
		return err
	}
	defer flush()
	probed, err := s.listenOps(cmd, log)
	if err != nil {
		return err
	}
	registry := newRegistry(live)
	client, err := s.connectToServe(cmd.Context(), producerConnections, log)
	if err != nil {
		return err
	}
	defer client.Close()
	client.AddHook(metrics.RedisHook(registry))
	offered := s.clientConfig(client, sealer)
	offered.Registerer = registry
	jobs, err := producer.New(offered)
	if err != nil {
		return err
	}
	defer func() { _ = jobs.Close() }() // its waits have ended with their requests
	log.Info().Str("redis", redisAddress(s.redis)).Str("config", s.path).Msg("connected")

	kept, err := files.New(files.Config{
		Redis: client, Prefix: s.prefix, Sealer: sealer, URL: s.file.Files.URL, Retention: s.file.Files.Retention, MaxBytes: int64(s.file.Files.MaxBytes),
	})
	if err != nil {
		return err
	}
	defer func() { _ = kept.Close() }() // what is written is written by then

	var parts []part
	setTenants := func(map[string]httpapi.TenantLimits) {}
	if s.file.Batches.Enabled == config.On {
		runner, err := batchrun.New(batchrun.Config{Client: jobs, Files: kept, AtOnce: s.file.Batches.AtOnce, Log: log})
		if err != nil {
			return err
		}
		parts = append(parts, runner.Run)
	}
	if listen != httpapi.ListenOff {
		overHTTP, auth, err := s.serveHTTP(cmd.Context(), client, httpapi.Config{
			Client: jobs, Metrics: ops.MetricsHandler(registry, log), Files: kept, Log: log,
			Status: func(ctx context.Context) (any, error) {
				d := s.deployment(client)
				d.catalog = jobs.Catalog()
				return readStatus(ctx, d)
			},
		}, listen)
		if err != nil {
			return err
		}
		parts, setTenants = append(parts, overHTTP), auth.SetTenants
	}
	if inboxOn {
		stream, err := inbox.New(inbox.Config{
			Redis: client, Client: jobs, Prefix: s.prefix, MaxQueued: s.file.Inbox.MaxQueued,
			MaxRejected: s.file.Inbox.MaxRejected, Log: log,
		})
		if err != nil {
			return err
		}
		parts = append(parts, stream.Run)
	}
	member := join(client, s.prefix, fleet.Producer)
	defer live.watch(cmd.Context(), member, func(file *config.File) error {
		setTenants(tenantsOf(file))
		return jobs.Reload(&file.Catalog)
	})()
	defer beat(cmd.Context(), member, log)()
	defer serveOps(probed, ops.Config{Process: "producer", Ready: readyUntil(cmd.Context(), jobs.Ready), Metrics: registry, Log: log})()
	return runParts(cmd.Context(), log, parts...)
}

// readyUntil says that the process is ending once its context has ended.
func readyUntil(ctx context.Context, ready func(context.Context) error) func(context.Context) error {
	return func(asked context.Context) error {
		if ctx.Err() != nil {
			return errors.New("the producer is ending")
		}
		return ready(asked)
	}
}

// runParts runs all until the context ends or one of them fails.
func runParts(ctx context.Context, log zerolog.Logger, parts ...part) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range parts {
		group.Go(func() error { return run(ctx) })
	}
	defer context.AfterFunc(ctx, func() {
		log.Info().Msg("stopping: running requests are let finish; a second signal cuts them off")
	})()
	if err := group.Wait(); err != nil {
		return fmt.Errorf("run the producer: %w", err)
	}
	log.Info().Msg("producer stopped")
	return nil
}
