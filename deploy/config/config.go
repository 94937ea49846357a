// Package config reads forebay.yaml: where Redis is, how a process works, and the catalog. It is strict. Whatever the
// file says that Forebay does not know, or cannot use, is refused with its line and column; nothing is ignored.
package config

import (
	"crypto/sha256"
	"time"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

// Off turns off what is on by default, where a field says that it can be.
const Off = catalog.Off

// On is what Off is not.
const On = "on"

// File is a whole forebay.yaml. The catalog's sections stand at the top level beside the others. After Load or Parse
// every default is filled in and everything but the secrets has been checked: see Check.
type File struct {
	Redis  Redis  `yaml:"redis"`
	Queues Queues `yaml:"queues"`
	Worker Worker `yaml:"worker"`
	HTTP   HTTP   `yaml:"http"`
	Ops    Ops    `yaml:"ops"`
	Inbox  Inbox  `yaml:"inbox"`
	// Files and Batches are those of OpenAI's interface.
	Files   Files   `yaml:"files"`
	Batches Batches `yaml:"batches"`
	// Encryption is that of requests and results at rest.
	Encryption Encryption `yaml:"encryption"`

	// Tracing is where the spans of jobs are sent.
	Tracing Tracing `yaml:"tracing"`

	Log    Log    `yaml:"log"`
	Health Health `yaml:"health"`
	// Tenants limit what single tenants may ask over HTTP, by their names. Who is not named has no limits of its own.
	Tenants map[string]Tenant `yaml:"tenants"`
	// Schedules are jobs that are made again and again, beside those of `forebay schedule`.
	Schedules []Schedule `yaml:"schedules"`
	// Alerts are those that Forebay tells people of by itself.
	Alerts  Alerts          `yaml:"alerts"`
	Catalog catalog.Catalog `yaml:",inline"`

	name      string
	digest    [sha256.Size]byte
	places    places
	recurring []schedules.Schedule
}

// Queues is how the queues are divided.
type Queues struct {
	// Shards is into how many shards, 1 to 64. Every process of a deployment should be told the same; none loses anything
	// where they differ, or when it changes. Defaults to 1.
	Shards int `yaml:"shards"`
}

// Worker is how one worker process works.
type Worker struct {
	// Slots is how many jobs it does at once, 1 to 10000. Defaults to 16.
	Slots int `yaml:"slots"`
	// DrainTimeout is how long it waits at its end for the calls that are out. It must be longer than the timeout of
	// every endpoint. Defaults to 2m.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// HTTP is the HTTP interface of `forebay producer` and `forebay dev`.
type HTTP struct {
	// Listen is its address, or Off. Defaults to 127.0.0.1:8080.
	Listen string `yaml:"listen"`
	TLS    TLS    `yaml:"tls"`
}

// Ops is where a worker, a scheduler and a producer say whether they work, and what they count: /healthz, /readyz and
// /metrics, without a key.
type Ops struct {
	// Listen is its address, or Off. Defaults to 127.0.0.1:9464.
	Listen string `yaml:"listen"`
}

// Schedule is a job that is made again and again.
type Schedule struct {
	// Name is unique within the tenant. Tenant defaults to catalog.DefaultTenant.
	Name   string `yaml:"name"`
	Tenant string `yaml:"tenant"`
	// Cron says when: five fields, @daily and the like, or @every with a duration. TimeZone defaults to UTC.
	Cron     string `yaml:"cron"`
	TimeZone string `yaml:"time_zone"`
	// Missed is what becomes of ticks while no scheduler runs: skip, once or all. Defaults to skip.
	Missed string `yaml:"missed"`
	// ExpiresAfter is how long after its tick a job ends as expired. Defaults to defaults.max_age.
	ExpiresAfter time.Duration `yaml:"expires_after"`
	// Job is what is made, as docs/jobs.md describes it, without id, run_at and deadline.
	Job map[string]any `yaml:"job"`
}

// Digest is that of the text that was read.
func (f *File) Digest() [sha256.Size]byte { return f.digest }

// Recurring are the schedules of the file.
func (f *File) Recurring() []schedules.Schedule { return f.recurring }

// TLS is what the HTTP interface shows to be who it is. Its files are read again when they change.
type TLS struct {
	// CertFile is the certificate in PEM, with those of its issuers, and KeyFile its private key. Both, or neither for no
	// TLS.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Tenant is what one tenant may ask of all producers together, 0 to 1000000; 0 is no limit.
type Tenant struct {
	// RequestsPerMinute counts the requests with the tenant's keys, JobsPerMinute the jobs in them.
	RequestsPerMinute int `yaml:"requests_per_minute"`
	JobsPerMinute     int `yaml:"jobs_per_minute"`
}

// Inbox is how the stream is consumed into which any language writes jobs.
type Inbox struct {
	// Enabled is On or Off. Defaults to On.
	Enabled string `yaml:"enabled"`
	// MaxQueued is how many tasks may wait in the queues before the stream is no longer read, without those of batches, 1
	// to 100000000. Defaults to 100000.
	MaxQueued int `yaml:"max_queued"`
	// MaxRejected is about how many refusals are kept, 1 to 10000000. Defaults to 100000.
	MaxRejected int `yaml:"max_rejected"`
}

// Files is where the files of batches are kept. All producers of a deployment need the same place.
type Files struct {
	// URL is a folder, file:///path or file://./path, or a bucket of S3, s3://name?region=...; see package producer/files.
	// Defaults to file://./forebay-files.
	URL string `yaml:"url"`
	// Retention is how long a file is kept that says nothing else, 1h to 8784h. Defaults to 720h.
	Retention time.Duration `yaml:"retention"`
	// MaxBytes is how large a file may be that is sent, 1 to 10737418240. Defaults to 209715200.
	MaxBytes int `yaml:"max_bytes"`
}

// Batches is how a producer works on batches.
type Batches struct {
	// Enabled is On or Off. Defaults to On. Where it is off in all producers batches are taken in, and wait.
	Enabled string `yaml:"enabled"`
	// AtOnce is how many batches one process reads or writes at a time, 1 to 64. Defaults to 4.
	AtOnce int `yaml:"at_once"`
}

// Health is how the scheduler has the endpoints probed.
type Health struct {
	// Probes is On or Off. Defaults to On.
	Probes string `yaml:"probes"`
	// Interval is the time from one health probe of an endpoint to the next, 1s to 1h. Defaults to 60s.
	Interval time.Duration `yaml:"interval"`
}

// Log is what a process writes to its standard error.
type Log struct {
	// Level is debug, info, warn or error. Defaults to info.
	Level string `yaml:"level"`
	// Format is json, console, or auto: console on a terminal, else json. Defaults to auto.
	Format string `yaml:"format"`
}
