package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// BenchmarkEnqueueToCall measures the time from before an enqueue into an idle queue until the provider has the call:
// with Forebay (record, index, task; claim, start, admission, intent), and with asynq as it is, one server in its
// default configuration, which polls. It reports both medians, Forebay's 99th percentile, and how many times sooner
// Forebay is.
func BenchmarkEnqueueToCall(b *testing.B) {
	called := make(chan time.Time, 1)
	bare := asynqToCall(b, called)

	d := deploy(b, site{fsync: "everysec"})
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called <- time.Now()
		d.sim.ServeHTTP(w, r)
	}))
	b.Cleanup(provider.Close)
	d.provider = provider.URL
	d.configure()
	d.producer = d.newProducer()
	d.embedWorker(d.server.Addr)
	var forebay []time.Duration
	for b.Loop() {
		job := tasks.Job{ID: fmt.Sprintf("job-%d", len(forebay)), TaskType: "fast_summary", Input: text}
		began := time.Now()
		_, err := d.producer.Enqueue(b.Context(), job)
		require.NoError(b, err)
		forebay = append(forebay, (<-called).Sub(began))
		d.await(time.Minute, job.ID)
		time.Sleep(10 * time.Millisecond) // idle again
	}
	slices.Sort(bare)
	slices.Sort(forebay)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(forebay[len(forebay)/2]), "median-ms")
	b.ReportMetric(ms(forebay[len(forebay)*99/100]), "p99-ms")
	b.ReportMetric(ms(bare[len(bare)/2]), "asynq-median-ms")
	b.ReportMetric(ms(bare[len(bare)/2])/ms(forebay[len(forebay)/2]), "ratio")
	b.ReportMetric(0, "ns/op")
}

// asynqToCall takes a few samples with asynq as it is: each costs a second.
func asynqToCall(b *testing.B, called chan time.Time) []time.Duration {
	b.Helper()
	provider := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- time.Now() }))
	defer provider.Close()
	rdb, _ := redistest.Real(b, "--appendonly", "yes", "--appendfsync", "everysec")
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{LogLevel: asynq.FatalLevel})
	require.NoError(b, server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		response, err := http.Post(provider.URL, "application/json", strings.NewReader(string(task.Payload())))
		if err != nil {
			return err
		}
		return response.Body.Close()
	})))
	defer server.Shutdown()
	client := asynq.NewClientFromRedisClient(rdb)
	var samples []time.Duration
	for range 15 {
		time.Sleep(rand.N(time.Second)) // anywhere between two polls
		began := time.Now()
		_, err := client.EnqueueContext(b.Context(), asynq.NewTask("bench", []byte(text)))
		require.NoError(b, err)
		samples = append(samples, (<-called).Sub(began))
	}
	return samples
}
