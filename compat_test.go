package main_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/schedules"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// Each minor version leaves what it wrote to Redis in testdata/compat/<version>.json, written once by
//
//	go test . -run TestCompatible -write-compat v0.1
//
// before its release, and never again: what stands there is what deployments have.
var writeCompat = flag.String("write-compat", "", "write what this build writes to Redis as that of a version, such as v0.1")

// written is what a version wrote, and what its own readers made of it.
type written struct {
	Keys []writtenKey `json:"keys"`
	// Results are the jobs as their users read them, Batches, Webhooks and Schedules as Go programs do; each by its id.
	Results   map[string]json.RawMessage `json:"results"`
	Batches   map[string]json.RawMessage `json:"batches"`
	Webhooks  map[string]json.RawMessage `json:"webhooks"`
	Schedules map[string]json.RawMessage `json:"schedules"`
}

// writtenKey is one key of Redis. What is no text stands as "hex:" and its bytes.
type writtenKey struct {
	Key  string `json:"key"`
	Type string `json:"type"`
	// Expires tells that it had an expiry.
	Expires bool               `json:"expires,omitempty"`
	String  string             `json:"string,omitempty"`
	List    []string           `json:"list,omitempty"`
	Hash    map[string]string  `json:"hash,omitempty"`
	Sorted  map[string]float64 `json:"sorted,omitempty"`
	Stream  []redis.XMessage   `json:"stream,omitempty"`
}

// farDeadline keeps the jobs of the files from expiring.
var farDeadline = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	compatBatch   = "batch_compat"
	compatWebhook = "msg_compat"
)

// TestCompatible has this build read, and go on with, what every earlier minor version wrote; and the same with additions
// as a newer one might make them, which are to be kept and ignored.
func TestCompatible(t *testing.T) {
	t.Parallel()
	if *writeCompat != "" {
		writeCompatible(t, filepath.Join("testdata/compat", *writeCompat+".json"))
	}
	files, err := filepath.Glob("testdata/compat/v*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := deploy(t, site{})
			was := readCompatible(t, file)
			was.restore(t, d.redis)
			was.compare(t, readWritten(t, d))
			goOn(t, d)
		})
		t.Run(name+" with what a newer version adds", func(t *testing.T) {
			t.Parallel()
			d := deploy(t, site{})
			was := readCompatible(t, file)
			was.add(t)
			was.restore(t, d.redis)
			was.compare(t, readWritten(t, d))
			// A retry writes the job anew: it loses nothing that this build does not know.
			record, err := d.store.Get(t.Context(), "queued-1")
			require.NoError(t, err)
			require.Equal(t, tasks.Version+1, record.Job.V)
			_, err = d.producer.Cancel(t.Context(), "queued-1")
			require.NoError(t, err)
			_, err = d.producer.Reopen(t.Context(), "queued-1")
			require.NoError(t, err)
			goOn(t, d)
			for _, id := range []string{"queued-0", "queued-1"} {
				fields := d.redis.HGetAll(t.Context(), keyspace.New("").Job(id)).Val()
				assert.Equal(t, "1", fields["novelty"], id)
				assert.Contains(t, fields["job"], `"novelty":{"x":1}`, id)
			}
		})
	}
}

// goOn starts this build's worker, and has it end everything that waits.
func goOn(t *testing.T, d *deployment) {
	t.Helper()
	waiting := []string{"queued-0", "queued-1", "critical-0", "bulk-0", "scheduled-0", batches.MemberID(compatBatch, 0), batches.MemberID(compatBatch, 1)}
	require.NoError(t, d.inspector.PauseQueue("webhooks"), "its target is nobody's")
	// Its time has come.
	require.NoError(t, d.inspector.RunTask("default", "scheduled-0"))
	d.startWorkers(1)
	for _, result := range d.await(time.Minute, waiting...) {
		assert.Equal(t, tasks.StatusSucceeded, result.Status, "%s: %+v", result.ID, result.Error)
	}
	d.eventually("the batch counts its members", func() bool {
		batch, err := d.store.Batches().Get(t.Context(), compatBatch, "acme")
		return err == nil && batch.Counts.Succeeded == 2
	})
	retried, err := d.producer.Reopen(t.Context(), "failed-0")
	require.NoError(t, err)
	require.Equal(t, 2, retried.Run)
	assert.Equal(t, tasks.StatusSucceeded, d.await(time.Minute, "failed-0")[0].Status)
	d.stopWorkers(syscall.SIGTERM)
}

// writeCompatible makes one of everything that outlives a process.
func writeCompatible(t *testing.T, path string) {
	t.Helper()
	ctx := t.Context()
	d := deploy(t, site{})
	far := func(job *tasks.Job) { job.Deadline = &farDeadline }
	d.enqueueJobs("succeeded", 1, far)
	d.startWorkers(1)
	d.await(time.Minute, "succeeded-0")
	d.stopWorkers(syscall.SIGTERM)
	d.enqueueJobs("failed", 1, far, func(job *tasks.Job) { job.Metadata = map[string]string{"document": "7"} })
	require.NoError(t, d.inspector.DeleteTask("default", "failed-0"))
	record, err := d.store.Get(ctx, "failed-0")
	require.NoError(t, err)
	ok, err := d.store.Reap(ctx, record, tasks.StatusFailed,
		tasks.Failure{Class: tasks.ClassUnavailable, Code: "http_503", Message: "first answered 503", Hint: "try later"}, time.Now())
	require.NoError(t, err)
	require.True(t, ok)

	d.enqueueJobs("cancelled", 1, far)
	_, err = d.producer.Cancel(ctx, "cancelled-0")
	require.NoError(t, err)
	d.enqueueJobs("queued", 2, far, func(job *tasks.Job) {
		job.ReplyStream, job.Metadata = "mine", map[string]string{"document": "7"}
		limit := 1.5
		job.MaxCostUSD = &limit
	})
	d.enqueueJobs("critical", 1, far, func(job *tasks.Job) { job.Priority = tasks.PriorityCritical })
	d.enqueueJobs("bulk", 1, far, func(job *tasks.Job) { job.Priority, job.Tenant = tasks.PriorityBulk, "acme" })
	runAt := farDeadline.Add(-time.Hour)
	d.enqueueJobs("scheduled", 1, far, func(job *tasks.Job) { job.RunAt = &runAt })

	_, err = d.store.Batches().Create(ctx, batches.Batch{
		ID: compatBatch, Tenant: "acme", Kind: batches.KindRun, Name: "documents.jsonl", Retention: time.Hour, Metadata: map[string]string{"night": "1"},
	})
	require.NoError(t, err)
	require.NoError(t, d.store.Batches().Begin(ctx, compatBatch, 2))
	for number := range 2 {
		_, err := d.producer.Enqueue(ctx, tasks.Job{
			ID: batches.MemberID(compatBatch, number), TaskType: "fast_summary", Input: text, Tenant: "acme", Deadline: &farDeadline,
			Priority: tasks.PriorityBulk, Member: &tasks.Member{Batch: compatBatch, Number: number},
		})
		require.NoError(t, err)
	}
	require.NoError(t, d.store.Webhooks().Create(ctx, webhooks.Webhook{
		ID: compatWebhook, Event: "job.succeeded", Tenant: "default", Job: "succeeded-0", Run: 1, At: time.Now(),
		To: tasks.Webhook{URL: "https://example.com/hooks?key=1", Headers: map[string]string{"X-Team": "a"}},
	}))
	schedule := schedules.Schedule{
		Name: "nightly", Cron: "30 2 * * *", TimeZone: "Europe/Berlin", Missed: "once",
		Job: tasks.Job{TaskType: "fast_summary", Input: text},
	}
	require.NoError(t, schedule.Complete(time.Now()))
	require.NoError(t, schedules.New(d.redis, keyspace.New(""), nil).Put(ctx, schedule))

	is := readWritten(t, d)
	is.Keys = dump(t, d.redis)
	encoded, err := json.MarshalIndent(is, "", " ")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, append(encoded, '\n'), 0o644))
}

// readWritten reads everything that writeCompatible makes by this build's readers.
func readWritten(t *testing.T, d *deployment) written {
	t.Helper()
	is := written{nil, map[string]json.RawMessage{}, map[string]json.RawMessage{}, map[string]json.RawMessage{}, map[string]json.RawMessage{}}
	for _, id := range []string{
		"succeeded-0", "failed-0", "cancelled-0", "queued-0", "queued-1", "critical-0", "bulk-0", "scheduled-0",
		batches.MemberID(compatBatch, 0), batches.MemberID(compatBatch, 1),
	} {
		record, err := d.store.Get(t.Context(), id)
		require.NoError(t, err)
		encoded, err := tasks.Encode(record.Result())
		require.NoError(t, err)
		is.Results[id] = encoded
	}
	keep := func(into map[string]json.RawMessage, id string, value any, err error) {
		require.NoError(t, err)
		encoded, err := json.Marshal(value)
		require.NoError(t, err)
		into[id] = encoded
	}
	batch, err := d.store.Batches().Get(t.Context(), compatBatch, "acme")
	keep(is.Batches, compatBatch, batch, err)
	hook, err := d.store.Webhooks().Get(t.Context(), compatWebhook, "default")
	keep(is.Webhooks, compatWebhook, hook, err)
	entry, err := schedules.New(d.redis, keyspace.New(""), nil).Get(t.Context(), "default", "nightly")
	keep(is.Schedules, "nightly", entry, err)
	return is
}
