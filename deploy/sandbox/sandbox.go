// Package sandbox runs a whole deployment in one process: Redis, simulated endpoints, workers, and the HTTP interface.
// It is what `forebay demo` and `forebay dev` are made of, and serves tests and experiments.
package sandbox

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/producer/inbox"
	"github.com/forebay-queue/forebay/scheduler"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/tasks/schedules"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/worker"
)

const (
	defaultSlots   = 16
	defaultListen  = "127.0.0.1:0"
	defaultDrain   = 2 * time.Minute
	shutdownServer = 5 * time.Second
	// shutdownScheduler is longer than any step of the scheduler.
	shutdownScheduler = 10 * time.Second
	// shutdownInbox is longer than any batch of the inbox takes.
	shutdownInbox = 10 * time.Second
)

// Config configures a Sandbox. A zero field means its documented default.
type Config struct {
	// Redis is the client to use; Close leaves it open. Give it a pool of at least Connections(Workers, Slots, Shards).
	// Defaults to an embedded Redis, which keeps everything in memory and forgets it at Close.
	Redis redis.UniversalClient
	// Data is a folder in which a redis-server of the sandbox's own keeps everything, so that the next sandbox with that
	// folder goes on where this one ended, however it did. Defaults to none: the embedded Redis.
	Data string
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// Sealer encrypts what is kept of requests and results. Defaults to none.
	Sealer *seal.Sealer
	// Shards is into how many shards the queues are divided, 1 to keyspace.MaxShards. Defaults to 1.
	Shards keyspace.Shards
	// Catalog is a validated catalog, whose endpoints are called as they stand. Defaults to the example's task types,
	// models and prices over Regions, which are simulated.
	Catalog *catalog.Catalog
	// Schedules are those of the configuration; they must have passed Complete.
	Schedules []schedules.Schedule
	// Alerts are those of the configuration; see scheduler.Plan. Defaults to none.
	Alerts *alerts.Settings
	// Regions are the simulated endpoints, in the order of their priority. They are used where there is no Catalog.
	// Defaults to DefaultRegions.
	Regions []Region
	// Recovery is the recovery time of breakers where there is no Catalog, 100ms to 24h. Defaults to 60s.
	Recovery time.Duration
	// Seed makes the simulated endpoints repeatable.
	Seed uint64
	// Workers is how many workers run, each with Slots slots. Default to 1 and 16.
	Workers, Slots int
	// DrainTimeout is how long Close lets running calls finish when its context does not end before. Defaults to 2m.
	DrainTimeout time.Duration
	// HealthInterval is the time from one health probe of an endpoint to the next, at least 1s;
	// scheduler.NoHealthProbes turns them off. Defaults to 60s.
	HealthInterval time.Duration
	// TraceContent and TraceUpstream are those of worker.Config.
	TraceContent, TraceUpstream bool
	// Listen is the address of the HTTP interface, and of asynq's console at /monitor. On loopback nobody is asked for a key
	// while there is none; other addresses need one to start with. ListenOff turns it off. Defaults to 127.0.0.1:0, a free
	// port.
	Listen string
	// TLS is what the HTTP interface is served over. Defaults to none.
	TLS *tls.Config
	// Tenants are the limits of tenants' requests over HTTP, by their names. Defaults to none.
	Tenants map[string]httpapi.TenantLimits
	// Status is what the HTTP interface answers at /v1/status. Defaults to no such address.
	Status func(ctx context.Context, s *Sandbox) (any, error)
	// Metrics is the registry of the process, which the HTTP interface shows at /metrics, to operators. Defaults to none.
	Metrics *prometheus.Registry
	// InboxOff leaves the inbox unread. MaxQueued and MaxRejected are those of inbox.Config.
	InboxOff               bool
	MaxQueued, MaxRejected int
	// FilesURL is where the files of batches are kept. Defaults to a folder in Data or, without Data, to one that Close
	// deletes. FilesRetention and MaxFileBytes are those of files.Config.
	FilesURL       string
	FilesRetention time.Duration
	MaxFileBytes   int64
	// BatchesOff leaves batches to others. BatchesAtOnce is that of batchrun.Config.
	BatchesOff    bool
	BatchesAtOnce int
	// Kind is what the first worker is in the fleet. Defaults to a worker.
	Kind fleet.Kind
	// Version is that of the program. Defaults to none.
	Version string
	// Log takes the lines of the workers. The zero value discards them.
	Log zerolog.Logger
}

func (c Config) withDefaults() Config {
	if len(c.Regions) == 0 {
		c.Regions = DefaultRegions()
	}
	setDefault(&c.Prefix, keyspace.DefaultPrefix)
	setDefault(&c.Recovery, time.Minute)
	setDefault(&c.Workers, 1)
	setDefault(&c.Slots, defaultSlots)
	setDefault(&c.DrainTimeout, defaultDrain)
	setDefault(&c.Listen, defaultListen)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// webhookSlots is how many attempts of webhooks a worker makes at once, unless the catalog says otherwise.
const webhookSlots = 32

// Connections is the size of a pool of connections to Redis that serves so many workers of so many slots.
func Connections(workers, slots int, shards keyspace.Shards) int {
	return workers*worker.Connections(slots, webhookSlots, shards) + 16
}

// Sandbox is a running deployment. Its fields are not to be changed.
type Sandbox struct {
	// Client enqueues, reads and cancels jobs.
	Client *producer.Client
	// Redis is the client that everything here uses; RedisURL is where the embedded Redis is reached, and empty for one
	// that was given.
	Redis    redis.UniversalClient
	RedisURL string
	// Durable tells that Redis keeps everything in Config.Data.
	Durable bool
	// Catalog is what the deployment began with; what holds is Client.Catalog.
	Catalog *catalog.Catalog
	// Member is the first worker's in the fleet.
	Member *fleet.Member
	// Simulator is the provider behind the simulated endpoints, SimulatorURL its address; nil and empty where the
	// Catalog was given.
	Simulator    *simulator.Simulator
	SimulatorURL string
	// HTTPURL is the base of the HTTP interface; empty where it is off.
	HTTPURL string
	// Workers are the running workers.
	Workers []*worker.Worker
	// SecretFile holds the secret that webhooks are signed with; empty where the Catalog was given.
	SecretFile string
	// File is a forebay.yaml by which other processes take part in this deployment; nil where the Catalog was given.
	File []byte

	config    Config
	listener  net.Listener // of HTTPURL
	auth      *httpapi.Auth
	gate      *gate.Gate
	scheduler *scheduler.Scheduler
	files     *files.Store
	closers   []func(context.Context) error // called from the last to the first

	failed    chan error
	closeOnce sync.Once
	closeErr  error
}

// Start starts a deployment and returns once it does jobs. The context bounds the start only. When a part of it cannot
// be started, the others are ended again.
func Start(ctx context.Context, config Config) (*Sandbox, error) {
	if err := CheckListen(config.Listen); err != nil {
		return nil, err
	}
	s := &Sandbox{config: config.withDefaults(), failed: make(chan error, 3)}
	for _, step := range []func(context.Context) error{
		s.listen, s.startRedis, s.countRedis, s.openAuth, s.startEndpoints, s.startWorkers, s.startScheduler, s.startClient, s.startInbox, s.startFiles, s.serveHTTP,
	} {
		err := step(ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
			cancel() // nothing is worth waiting for
			return nil, errors.Join(err, s.Close(ended))
		}
	}
	return s, nil
}

// Failed tells when a server of the deployment has ended by itself, and why.
func (s *Sandbox) Failed() <-chan error { return s.failed }

// Reload has everything work by another catalog, other limits of tenants and another plan of the scheduler, as far as it
// begins from now on. What was simulated stays, and is only called where the catalog has it.
func (s *Sandbox) Reload(plan scheduler.Plan, tenants map[string]httpapi.TenantLimits) error {
	for _, w := range s.Workers {
		if err := w.Reload(plan.Catalog); err != nil {
			return err
		}
	}
	if s.auth != nil {
		s.auth.SetTenants(tenants)
	}
	return errors.Join(s.scheduler.Reload(plan), s.Client.Reload(plan.Catalog))
}

// Close ends everything that Start began, the last first. Calls that are out may finish until the context ends, or
// for the DrainTimeout; what still runs then is given up and given back. It may be called again.
func (s *Sandbox) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, s.config.DrainTimeout)
		defer cancel()
		var problems []error
		for _, closer := range slices.Backward(s.closers) {
			problems = append(problems, closer(ctx))
		}
		s.closeErr = errors.Join(problems...)
	})
	return s.closeErr
}

// Endpoints reads the breakers and counters of all endpoints, in the order of their priority.
func (s *Sandbox) Endpoints(ctx context.Context) ([]gate.EndpointState, error) {
	endpoints := s.EndpointOrder()
	names := make([]gate.Endpoint, len(endpoints))
	for i, e := range endpoints {
		names[i] = gate.Endpoint{Account: e.Account, Name: e.Name}
	}
	return s.gate.Endpoints(ctx, names)
}

// onClose has something ended by Close, before all that was begun earlier.
func (s *Sandbox) onClose(end func(context.Context) error) { s.closers = append(s.closers, end) }

func (s *Sandbox) startClient(context.Context) error {
	client, err := producer.New(producer.Config{
		Redis: s.Redis, Catalog: s.Catalog, Prefix: s.config.Prefix, Shards: s.config.Shards, Sealer: s.config.Sealer,
		Registerer: s.registerer(),
	})
	if err != nil {
		return fmt.Errorf("start the producer: %w", err)
	}
	s.Client = client
	s.onClose(func(context.Context) error { return client.Close() })
	s.gate = gate.New(s.Redis, keyspace.New(s.config.Prefix), s.Catalog)
	return nil
}

// startInbox starts what takes jobs in from any language.
func (s *Sandbox) startInbox(ctx context.Context) error {
	if s.config.InboxOff {
		return nil
	}
	stream, err := inbox.New(inbox.Config{
		Redis: s.Redis, Client: s.Client, Prefix: s.config.Prefix, MaxQueued: s.config.MaxQueued,
		MaxRejected: s.config.MaxRejected, Log: s.config.Log,
	})
	if err != nil {
		return fmt.Errorf("start the inbox: %w", err)
	}
	s.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownInbox)
		defer cancel()
		return stream.Shutdown(ctx)
	})
	if err := stream.Start(ctx); err != nil {
		return fmt.Errorf("start the inbox: %w", err)
	}
	return nil
}

// registerer takes what the parts of the deployment count; nil for none.
func (s *Sandbox) registerer() prometheus.Registerer {
	if s.config.Metrics == nil {
		return nil // an interface that holds a nil registry would be one
	}
	return s.config.Metrics
}

// countRedis counts what all parts of the deployment ask of Redis.
func (s *Sandbox) countRedis(context.Context) error {
	if s.config.Metrics != nil {
		s.Redis.AddHook(metrics.RedisHook(s.config.Metrics))
	}
	return nil
}

// startWorkers starts the workers. They end together, so that the slowest call bounds the drain.
func (s *Sandbox) startWorkers(ctx context.Context) error {
	s.onClose(s.stopWorkers)
	for i := range s.config.Workers {
		member := fleet.Join(s.Redis, keyspace.New(s.config.Prefix), fleet.Process{Kind: cmp.Or(s.config.Kind, fleet.Worker), Version: s.config.Version})
		if i == 0 {
			s.Member = member
		}
		w, err := worker.New(worker.Config{
			Redis: s.Redis, Prefix: s.config.Prefix, Sealer: s.config.Sealer, Catalog: s.Catalog, Slots: s.config.Slots,
			Shards: s.config.Shards, DrainTimeout: s.config.DrainTimeout, Version: s.config.Version, Member: member, Log: s.config.Log, Registerer: s.registerer(),
			TraceContent: s.config.TraceContent, TraceUpstream: s.config.TraceUpstream,
		})
		if err != nil {
			return fmt.Errorf("start a worker: %w", err)
		}
		if err := w.Start(ctx); err != nil {
			return fmt.Errorf("start a worker: %w", err)
		}
		s.Workers = append(s.Workers, w)
	}
	return nil
}

// startScheduler starts what mends the queues and has the endpoints probed.
func (s *Sandbox) startScheduler(ctx context.Context) error {
	standing, err := scheduler.New(scheduler.Config{
		Redis: s.Redis, Prefix: s.config.Prefix, Sealer: s.config.Sealer, Shards: s.config.Shards, Log: s.config.Log, Registerer: s.registerer(),
		Plan: scheduler.Plan{Catalog: s.Catalog, HealthInterval: s.config.HealthInterval, Schedules: s.config.Schedules, Alerts: s.config.Alerts},
	})
	if err != nil {
		return fmt.Errorf("start the scheduler: %w", err)
	}
	s.scheduler = standing
	s.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownScheduler)
		defer cancel()
		return standing.Shutdown(ctx)
	})
	if err := standing.Start(ctx); err != nil {
		return fmt.Errorf("start the scheduler: %w", err)
	}
	return nil
}

func (s *Sandbox) stopWorkers(ctx context.Context) error {
	problems := make([]error, len(s.Workers))
	var group sync.WaitGroup
	for i, w := range s.Workers {
		group.Go(func() { problems[i] = w.Shutdown(ctx) })
	}
	group.Wait()
	return errors.Join(problems...)
}

// serve answers on a listener until Close. Calls that hang are ended by release, which may be nil.
func (s *Sandbox) serve(what string, listener net.Listener, handler http.Handler, release func() error) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s on %s: %w", what, listener.Addr(), err)
		}
	}()
	s.onClose(func(ctx context.Context) error {
		var problems []error
		if release != nil {
			problems = append(problems, release())
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownServer)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			problems = append(problems, server.Close())
		}
		<-stopped
		return errors.Join(problems...)
	})
}
