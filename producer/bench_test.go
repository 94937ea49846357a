package producer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

const (
	benchJobs       = 100_000
	benchRounds     = 3
	benchGoroutines = 64
)

// 100,000 jobs of 1 KB on a real Redis: EnqueueMany from one caller, record and index included, beside a bare client of
// asynq with 64 goroutines that enqueues tasks of 1 KB. Rounds alternate in the order ABBA; the medians count. Run it
// with -benchtime 1x.
func BenchmarkEnqueueMany(b *testing.B) {
	client, _ := redistest.Real(b)
	texts := kilobytes(b)
	for range b.N {
		var own, bare, ownCPU, bareCPU []float64
		var grown uint64
		for round := range benchRounds {
			for _, first := range []bool{round%2 == 0, round%2 != 0} {
				require.NoError(b, client.FlushAll(b.Context()).Err())
				runtime.GC()
				before := processorTime(b)
				if first {
					rate, heap := enqueueMany(b, client, texts)
					own, grown = append(own, rate), max(grown, heap)
					ownCPU = append(ownCPU, processorTime(b)-before)
				} else {
					bare = append(bare, enqueueBare(b, texts, client.Options()))
					bareCPU = append(bareCPU, processorTime(b)-before)
				}
			}
		}
		b.Logf("jobs/s: %.0f, asynq %.0f", own, bare)
		b.ReportMetric(median(own), "jobs/s")
		b.ReportMetric(median(bare), "asynq-jobs/s")
		b.ReportMetric(median(own)/median(bare), "ratio")
		b.ReportMetric(median(ownCPU)/benchJobs, "cpu-us/job")
		b.ReportMetric(median(bareCPU)/benchJobs, "asynq-cpu-us/job")
		b.ReportMetric(float64(grown)/(1<<20), "heap-MiB")
		b.ReportMetric(0, "ns/op")
	}
}

// kilobytes are texts of 1 KB out of this project's documentation.
func kilobytes(b *testing.B) []string {
	b.Helper()
	files, err := filepath.Glob("../docs/*.md")
	require.NoError(b, err)
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(b, err)
		all.WriteString(strings.ToValidUTF8(string(text), ""))
	}
	text := all.String()
	var texts []string
	for from := 0; from+1024 < len(text); from += 97 {
		texts = append(texts, strings.ToValidUTF8(text[from:from+1024], ""))
	}
	return texts
}

// processorTime is what this process has taken of the processors, in microseconds: on a busy machine it is steadier than
// the clock. Redis is not in it.
func processorTime(b *testing.B) float64 {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1000
}

func median(rates []float64) float64 {
	sorted := slices.Sorted(slices.Values(rates))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// enqueueMany returns jobs a second, and how large the heap was at most.
func enqueueMany(b *testing.B, client *redis.Client, texts []string) (rate float64, heap uint64) {
	b.Helper()
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: newCatalog(b)})
	require.NoError(b, err)
	defer func() { _ = jobs.Close() }()
	source := func(yield func(tasks.Job) bool) {
		for i := range benchJobs {
			if !yield(tasks.Job{ID: fmt.Sprintf("doc-%d", i), TaskType: "fast_summary", Input: texts[i%len(texts)]}) {
				return
			}
		}
	}
	var stats runtime.MemStats
	begun, taken := time.Now(), 0
	for _, err := range jobs.EnqueueMany(b.Context(), source) {
		require.NoError(b, err)
		if taken++; taken%10_000 == 0 {
			runtime.ReadMemStats(&stats)
			heap = max(heap, stats.HeapInuse)
		}
	}
	rate = benchJobs / time.Since(begun).Seconds()
	require.EqualValues(b, benchJobs, client.LLen(b.Context(), "asynq:{default}:pending").Val())
	return rate, heap
}

func enqueueBare(b *testing.B, texts []string, options *redis.Options) float64 {
	b.Helper()
	own := *options
	own.PoolSize = benchGoroutines
	client := redis.NewClient(&own)
	defer client.Close()
	queue := asynq.NewClientFromRedisClient(client)
	var next atomic.Int64
	var group errgroup.Group
	begun := time.Now()
	for range benchGoroutines {
		group.Go(func() error {
			for i := next.Add(1); i <= benchJobs; i = next.Add(1) {
				task := asynq.NewTask("bare", []byte(texts[int(i)%len(texts)]))
				if _, err := queue.EnqueueContext(context.Background(), task); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, group.Wait())
	return benchJobs / time.Since(begun).Seconds()
}
