package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// The documented defaults.
const (
	defaultRedisURL     = "redis://127.0.0.1:6379/0"
	defaultSlots        = 16
	defaultDrainTimeout = 2 * time.Minute
	defaultListen       = "127.0.0.1:8080"
	// DefaultOpsListen is the address of the listener for health and metrics.
	DefaultOpsListen     = "127.0.0.1:9464"
	defaultLogLevel      = "info"
	defaultLogFormat     = "auto"
	defaultInterval      = time.Minute
	defaultMaxQueued     = 100_000
	defaultMaxRejected   = 100_000
	defaultBatchesAtOnce = 4
)

const (
	maxSlots         = 10_000
	maxDrainTimeout  = 2 * time.Hour
	minInterval      = time.Second
	maxInterval      = time.Hour
	maxMaxQueued     = 100_000_000
	maxMaxRejected   = 10_000_000
	maxPerMinute     = 1_000_000
	minFileRetention = time.Hour
	maxFileRetention = 8784 * time.Hour
	mostFileBytes    = 10 << 30
	maxBatchesAtOnce = 64
)

var (
	envPattern    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
)

// validate fills in the defaults and checks everything that needs no secret. It joins *catalog.PathErrors.
func (f *File) validate() error {
	if f.Redis.URLEnv == "" {
		f.Redis.URL = cmp.Or(f.Redis.URL, defaultRedisURL)
	}
	f.Redis.Prefix = cmp.Or(f.Redis.Prefix, keyspace.DefaultPrefix)
	f.Redis.WaitTimeout = cmp.Or(f.Redis.WaitTimeout, defaultWaitTimeout)
	f.Redis.MemoryLimit = cmp.Or(f.Redis.MemoryLimit, defaultMemoryLimit)
	f.Queues.Shards = cmp.Or(f.Queues.Shards, 1)
	f.Worker.Slots = cmp.Or(f.Worker.Slots, defaultSlots)
	f.Worker.DrainTimeout = cmp.Or(f.Worker.DrainTimeout, defaultDrainTimeout)
	f.HTTP.Listen = cmp.Or(f.HTTP.Listen, defaultListen)
	f.Ops.Listen = cmp.Or(f.Ops.Listen, DefaultOpsListen)
	f.Inbox.Enabled = cmp.Or(f.Inbox.Enabled, On)
	f.Inbox.MaxQueued = cmp.Or(f.Inbox.MaxQueued, defaultMaxQueued)
	f.Inbox.MaxRejected = cmp.Or(f.Inbox.MaxRejected, defaultMaxRejected)
	f.Files.URL = cmp.Or(f.Files.URL, files.DefaultURL)
	f.Files.Retention = cmp.Or(f.Files.Retention, files.DefaultRetention)
	f.Files.MaxBytes = cmp.Or(f.Files.MaxBytes, files.DefaultMaxBytes)
	f.Batches.Enabled = cmp.Or(f.Batches.Enabled, On)
	f.Batches.AtOnce = cmp.Or(f.Batches.AtOnce, defaultBatchesAtOnce)
	f.Tracing.Content = cmp.Or(f.Tracing.Content, Off)
	f.Tracing.Upstream = cmp.Or(f.Tracing.Upstream, Off)
	f.Log.Level = cmp.Or(f.Log.Level, defaultLogLevel)
	f.Log.Format = cmp.Or(f.Log.Format, defaultLogFormat)
	f.Health.Probes = cmp.Or(f.Health.Probes, On)
	f.Health.Interval = cmp.Or(f.Health.Interval, defaultInterval)
	f.Alerts.fillDefaults()

	var problems []error
	if err := f.Catalog.Validate(); err != nil {
		problems = append(problems, parts(err)...)
	}
	problems = append(problems, f.Redis.validate()...)
	problems = append(problems, f.validateWorker()...)
	if f.HTTP.Listen != Off && !validListen(f.HTTP.Listen) {
		problems = append(problems, refuse(fmt.Sprintf("must be an address and port such as 127.0.0.1:8080, or off, got %q", f.HTTP.Listen), "http", "listen"))
	}
	if f.Ops.Listen != Off && !validListen(f.Ops.Listen) {
		problems = append(problems, refuse(fmt.Sprintf("must be an address and port such as 127.0.0.1:9464, or off, got %q", f.Ops.Listen), "ops", "listen"))
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, f.Log.Level) {
		problems = append(problems, refuse(fmt.Sprintf("must be debug, info, warn or error, got %q", f.Log.Level), "log", "level"))
	}
	if formats := []string{"auto", "console", "json"}; !slices.Contains(formats, f.Log.Format) {
		problems = append(problems, refuse(fmt.Sprintf("must be auto, console or json, got %q", f.Log.Format), "log", "format"))
	}
	problems = append(problems, f.Inbox.validate()...)
	problems = append(problems, f.Files.validate()...)
	problems = append(problems, f.Batches.validate()...)
	problems = append(problems, f.Encryption.validate()...)
	problems = append(problems, f.Tracing.validate()...)
	problems = append(problems, f.Health.validate()...)
	problems = append(problems, f.Alerts.validate()...)
	problems = append(problems, f.HTTP.TLS.validate()...)
	problems = append(problems, f.validateTenants()...)
	if len(problems) == 0 { // their jobs are checked by the catalog
		problems = f.validateSchedules()
	}
	return errors.Join(problems...)
}

func (n Inbox) validate() []error {
	var problems []error
	if n.Enabled != On && n.Enabled != Off {
		problems = append(problems, refuse("must be on or off", "inbox", "enabled"))
	}
	if n.MaxQueued < 1 || n.MaxQueued > maxMaxQueued {
		problems = append(problems, refuse(fmt.Sprintf("must be 1 to %d, got %d", maxMaxQueued, n.MaxQueued), "inbox", "max_queued"))
	}
	if n.MaxRejected < 1 || n.MaxRejected > maxMaxRejected {
		problems = append(problems, refuse(fmt.Sprintf("must be 1 to %d, got %d", maxMaxRejected, n.MaxRejected), "inbox", "max_rejected"))
	}
	return problems
}

func (k Files) validate() []error {
	var problems []error
	if err := files.CheckURL(k.URL); err != nil {
		problems = append(problems, refuse(err.Error(), "files", "url"))
	}
	if k.Retention < minFileRetention || k.Retention > maxFileRetention {
		problems = append(problems, refuse(fmt.Sprintf("must be %s to %s, got %s", catalog.FormatDuration(minFileRetention),
			catalog.FormatDuration(maxFileRetention), catalog.FormatDuration(k.Retention)), "files", "retention"))
	}
	if k.MaxBytes < 1 || k.MaxBytes > mostFileBytes {
		problems = append(problems, refuse(fmt.Sprintf("must be 1 to %d, got %d", mostFileBytes, k.MaxBytes), "files", "max_bytes"))
	}
	return problems
}

func (b Batches) validate() []error {
	var problems []error
	if b.Enabled != On && b.Enabled != Off {
		problems = append(problems, refuse("must be on or off", "batches", "enabled"))
	}
	if b.AtOnce < 1 || b.AtOnce > maxBatchesAtOnce {
		problems = append(problems, refuse(fmt.Sprintf("must be 1 to %d, got %d", maxBatchesAtOnce, b.AtOnce), "batches", "at_once"))
	}
	return problems
}

func (t TLS) validate() []error {
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		return []error{refuse("needs key_file beside it", "http", "tls", "cert_file")}
	case t.KeyFile != "" && t.CertFile == "":
		return []error{refuse("needs cert_file beside it", "http", "tls", "key_file")}
	}
	return nil
}

func (f *File) validateTenants() []error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(f.Tenants)) {
		if !tasks.ValidName(name) {
			problems = append(problems, refuse("a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -", "tenants", name))
		}
		for field, limit := range map[string]int{
			"requests_per_minute": f.Tenants[name].RequestsPerMinute, "jobs_per_minute": f.Tenants[name].JobsPerMinute,
		} {
			if limit < 0 || limit > maxPerMinute {
				problems = append(problems, refuse(fmt.Sprintf("must be 0 to %d, got %d; 0 is no limit", maxPerMinute, limit), "tenants", name, field))
			}
		}
	}
	return problems
}

func (h Health) validate() []error {
	var problems []error
	if h.Probes != On && h.Probes != Off {
		problems = append(problems, refuse(fmt.Sprintf("must be on or off, got %q", h.Probes), "health", "probes"))
	}
	if h.Interval < minInterval || h.Interval > maxInterval {
		problems = append(problems, refuse(fmt.Sprintf("must be %s to %s, got %s", catalog.FormatDuration(minInterval),
			catalog.FormatDuration(maxInterval), catalog.FormatDuration(h.Interval)), "health", "interval"))
	}
	return problems
}

func refuse(problem string, path ...string) error {
	return &catalog.PathError{Path: path, Problem: problem}
}

func validListen(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	number, err := strconv.Atoi(port)
	return err == nil && number >= 0 && number <= 65535
}

// shardsForms is what queues.shards may be.
var shardsForms = fmt.Sprintf("1 to %d", keyspace.MaxShards)

func (f *File) validateWorker() []error {
	var problems []error
	if f.Queues.Shards < 1 || f.Queues.Shards > keyspace.MaxShards {
		problems = append(problems, refuse(fmt.Sprintf("must be %s, got %d", shardsForms, f.Queues.Shards), "queues", "shards"))
	}
	if f.Worker.Slots < 1 || f.Worker.Slots > maxSlots {
		problems = append(problems, refuse(fmt.Sprintf("must be 1 to %d, got %d", maxSlots, f.Worker.Slots), "worker", "slots"))
	}
	if f.Worker.DrainTimeout < time.Second || f.Worker.DrainTimeout > maxDrainTimeout {
		return append(problems, refuse(fmt.Sprintf("must be 1s to %s, got %s", catalog.FormatDuration(maxDrainTimeout), catalog.FormatDuration(f.Worker.DrainTimeout)), "worker", "drain_timeout"))
	}
	slowest := slowestEndpoint(&f.Catalog)
	if slowest == nil || slowest.Timeout < f.Worker.DrainTimeout {
		return problems
	}
	if f.places.has("worker", "drain_timeout") {
		return append(problems, refuse(fmt.Sprintf("must be longer than the longest timeout of an endpoint, or a shutdown cuts off calls that are paid for; that of %s is %s",
			slowest.Name, catalog.FormatDuration(slowest.Timeout)), "worker", "drain_timeout"))
	}
	return append(problems, refuse(fmt.Sprintf("must be shorter than worker.drain_timeout, or a shutdown cuts off calls that are paid for; set that to more than %s (it defaults to %s)",
		catalog.FormatDuration(slowest.Timeout), catalog.FormatDuration(defaultDrainTimeout)), "endpoints", slowest.Name, "timeout"))
}

func slowestEndpoint(c *catalog.Catalog) *catalog.Endpoint {
	var slowest *catalog.Endpoint
	for _, name := range slices.Sorted(maps.Keys(c.Endpoints)) {
		if endpoint := c.Endpoints[name]; endpoint != nil && (slowest == nil || endpoint.Timeout > slowest.Timeout) {
			slowest = endpoint
		}
	}
	return slowest
}
