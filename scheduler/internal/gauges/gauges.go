// Package gauges shows how a deployment stands, as metrics: its queues, breakers, budget, dead letters, workers and
// Redis. The leader alone shows them, so that they are there once, however many schedulers are scraped.
//
// They are read from Redis when somebody scrapes, at most every few seconds, by one reader however many scrapes come. What
// that costs grows with the configuration, the workers and the lanes, and not with the jobs.
package gauges

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// fresh is how old what is shown may be.
	fresh = 5 * time.Second
	// readWithin bounds reading it all.
	readWithin = 5 * time.Second
	// tellEvery is how often the log hears that something cannot be read.
	tellEvery = time.Minute
)

// Config configures Gauges. Log may be zero.
type Config struct {
	Redis redis.UniversalClient
	Store *jobstore.Store
	// Catalog is the one that holds; nil for none, and neither endpoints nor budget.
	Catalog func() *catalog.Catalog
	// Workers counts the workers that are alive.
	Workers func(ctx context.Context) (int, error)
	// Leading tells whether this process leads.
	Leading func() bool
	Log     zerolog.Logger
}

// Gauges is a prometheus.Collector.
type Gauges struct {
	config Config
	failed prometheus.Counter

	mutex sync.Mutex
	// gate and budget are by the catalog that was there last; nil without one.
	catalog *catalog.Catalog
	gate    *gate.Gate
	budget  *gate.Budget
	// read is what was read last, and at is when; told is when the log last heard of a failure.
	read     []prometheus.Metric
	at, told time.Time
}

// New returns Gauges. They read nothing yet.
func New(config Config) *Gauges {
	return &Gauges{config: config, failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "forebay_deployment_read_failures_total",
		Help: "Times that part of how the deployment stands could not be read from Redis, and was left out.",
	})}
}

// follow takes up another catalog.
func (g *Gauges) follow(holds *catalog.Catalog) {
	if holds == g.catalog {
		return
	}
	g.catalog, g.gate, g.budget = holds, nil, nil
	if holds != nil {
		g.gate = gate.New(g.config.Redis, g.config.Store.Keys(), holds)
		g.budget = gate.NewBudget(g.config.Redis, g.config.Store.Keys(), holds.Budget)
	}
}

// Describe implements prometheus.Collector.
func (g *Gauges) Describe(out chan<- *prometheus.Desc) {
	g.failed.Describe(out)
	for _, desc := range descs {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (g *Gauges) Collect(out chan<- prometheus.Metric) {
	leads := 0.0
	if g.config.Leading() {
		leads = 1
		for _, metric := range g.current() {
			out <- metric
		}
	}
	out <- gauge(leader, leads)
	g.failed.Collect(out)
}

// current is what was read a moment ago, by this scrape or another one.
func (g *Gauges) current() []prometheus.Metric {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if !g.at.IsZero() && time.Since(g.at) < fresh {
		return g.read
	}
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	g.read = nil
	g.follow(g.config.Catalog())
	var problems []error
	for _, part := range []func(context.Context) ([]prometheus.Metric, error){
		g.queues, g.jobs, g.endpoints, g.budgets, g.alerts, g.workers, g.servers,
	} {
		found, err := part(ctx)
		if err != nil {
			problems = append(problems, err)
			g.failed.Inc()
			continue
		}
		g.read = append(g.read, found...)
	}
	g.at = time.Now()
	if err := errors.Join(problems...); err != nil && time.Since(g.told) >= tellEvery {
		g.told = g.at
		g.config.Log.Warn().Err(err).Msg("some of how the deployment stands cannot be read at the moment, and is missing in the metrics")
	}
	return g.read
}
