package producer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// Jobs of 1 KB on a real Redis, from one caller.
func BenchmarkEnqueueMany(b *testing.B) {
	client, _ := redistest.Real(b)
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: newCatalog(b)})
	require.NoError(b, err)
	defer func() { _ = jobs.Close() }()
	text := strings.Repeat("One kilobyte. ", 1024/14)
	source := func(yield func(tasks.Job) bool) {
		for i := 0; i < b.N && yield(tasks.Job{ID: fmt.Sprintf("doc-%d", i), TaskType: "fast_summary", Input: text}); i++ {
		}
	}
	b.ResetTimer()
	for _, err := range jobs.EnqueueMany(b.Context(), source) {
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
