package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/seal"
)

const (
	// notesEvery is how often it is looked what the deployment waits for while nothing ends, and notesSeldom how many
	// times as seldom while lines do end: it goes through all keys and some thousands of records.
	notesEvery  = 2 * time.Second
	notesSeldom = 8
	// batchConnections are those to Redis.
	batchConnections = 8
)

// batchSite is the deployment that a batch runs in.
type batchSite struct {
	client  *producer.Client
	redis   redis.UniversalClient
	catalog *catalog.Catalog
	prefix  string
	sealer  *seal.Sealer
	closers []func() error

	mu   sync.Mutex
	note string // what the deployment waits for, or misses
}

// openBatchSite reaches the configured deployment, or starts one in this process.
func openBatchSite(cmd *cobra.Command, flags batchRunFlags) (*batchSite, error) {
	if flags.local {
		return startBatchSite(cmd, flags)
	}
	s, err := requireSettings(cmd)
	if err != nil {
		return nil, fmt.Errorf("%w; or run it in this process with --local", err)
	}
	sealer, err := s.sealer()
	if err != nil {
		return nil, err
	}
	site := &batchSite{catalog: &s.file.Catalog, prefix: s.prefix, sealer: sealer}
	client, err := s.connect(cmd.Context(), batchConnections)
	if err != nil {
		if flags.dryRun { // what is planned can be said without it
			return site, nil
		}
		return nil, err
	}
	site.redis = client
	site.closers = append(site.closers, client.Close)
	return site, site.openClient(s.clientConfig(client, sealer))
}

func (s *batchSite) openClient(config producer.Config) error {
	client, err := producer.New(config)
	if err != nil {
		return errors.Join(err, s.close())
	}
	s.client = client
	s.closers = append(s.closers, client.Close)
	return nil
}

// startBatchSite starts a whole deployment in this process, whose Redis keeps everything where one is installed.
func startBatchSite(cmd *cobra.Command, flags batchRunFlags) (*batchSite, error) {
	file, d, err := devConfig(cmd)
	if err != nil {
		return nil, err
	}
	settings := sandbox.Config{
		Prefix: file.Redis.Prefix, Slots: file.Worker.Slots, DrainTimeout: file.Worker.DrainTimeout, Listen: sandbox.ListenOff, InboxOff: true,
		BatchesOff:     true,
		Shards:         keyspace.Shards(file.Queues.Shards),
		HealthInterval: healthInterval(file.Health),
	}
	if cmd.Flags().Changed(flagLogLevel) {
		settings.Log = newLog(cmd, file.Log)
	} else {
		settings.Log = zerolog.Nop()
	}
	if settings.Sealer, err = sealerOf(file); err != nil {
		return nil, err
	}
	if d.config != "" {
		settings.Catalog = &file.Catalog
	}
	if !flags.dryRun && sandbox.CanKeep() {
		settings.Data = cmp.Or(flags.data, flags.out+journalSuffix)
	}
	running, err := sandbox.Start(cmd.Context(), settings)
	if err != nil {
		return nil, err
	}
	if !flags.dryRun {
		tellLocal(cmd, running, settings.Data)
	}
	return &batchSite{
		client: running.Client, redis: running.Redis, catalog: running.Catalog, prefix: file.Redis.Prefix,
		closers: []func() error{func() error { return running.Close(context.WithoutCancel(cmd.Context())) }},
	}, nil
}

func tellLocal(cmd *cobra.Command, running *sandbox.Sandbox, data string) {
	out := cmd.ErrOrStderr()
	if running.Durable {
		fmt.Fprintf(out, "A whole deployment runs in this process; its Redis keeps everything in %s.\n", data)
	} else {
		fmt.Fprintln(out, "A whole deployment runs in this process, with an embedded Redis, which is not durable: no redis-server is installed.\nAnswers are kept in the journal; calls that are out when this ends are made again.")
	}
	if running.Simulator != nil {
		fmt.Fprintln(out, "Its endpoints are simulated: nothing is billed, and the answers are extracts of the texts. --config takes real ones.")
	}
}

func (s *batchSite) close() error {
	var problems []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		problems = append(problems, s.closers[i]())
	}
	return errors.Join(problems...)
}

// simulated labels costs that nobody bills.
func (s *batchSite) simulated() string {
	for _, endpoint := range s.catalog.Endpoints {
		if !endpoint.Simulated {
			return ""
		}
	}
	return " (simulated: nothing is billed)"
}

// watch looks now and then what the deployment waits for, until the context ends.
func (s *batchSite) watch(ctx context.Context, ended func() int) {
	look := func() {
		note := s.look(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.note = note
	}
	look()
	go func() {
		ticker := time.NewTicker(notesEvery)
		defer ticker.Stop()
		before, skipped := 0, 0
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			now := ended()
			if skipped++; now == before || skipped == notesSeldom {
				skipped = 0
				look()
			}
			before = now
		}
	}()
}

// notes is what the deployment waits for, or misses; empty for nothing.
func (s *batchSite) notes() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.note
}

func (s *batchSite) look(ctx context.Context) string {
	workers, err := liveWorkers(ctx, s.redis, keyspace.New(s.prefix))
	switch {
	case err != nil:
		return ""
	case len(workers) == 0:
		return "no worker is alive, so nothing is done until one is: start `forebay worker`"
	}
	waits, err := readWaits(ctx, s.redis, s.prefix)
	if err != nil || len(waits.For) == 0 {
		return ""
	}
	first := waits.For[0]
	note := fmt.Sprintf("%s of the deployment wait: %s", plural(first.Jobs, "job"), first.Reason)
	if first.Limit != "" {
		note += " of " + first.Limit
	}
	if until := time.Until(first.Next); until > time.Second {
		note += ", for " + brief(until)
	}
	return note
}
