package main_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
)

// BenchmarkRedisMemory measures what a job takes of Redis' memory: while it waits, and once it has ended with an answer of
// 1 KB, for as long as its record is kept. It also reports how many connections a worker of 16 slots has under load.
func BenchmarkRedisMemory(b *testing.B) {
	const jobs = 5000
	for _, size := range []int{1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			for b.Loop() {
				d := deploy(b, site{fsync: "everysec", regions: []simulator.RegionConfig{{Name: "first", Answer: simulator.AnswerFixed}}})
				random := rand.New(rand.NewPCG(1, uint64(size)))
				words := strings.Fields(text)
				before, alone := d.usedMemory(), d.connections()
				ids := d.enqueueJobs("memory", jobs, func(job *tasks.Job) {
					var long strings.Builder
					for long.Len() < size {
						long.WriteString(words[random.IntN(len(words))] + " ")
					}
					job.Input = long.String()[:size]
				})
				waiting := d.usedMemory()
				d.startWorkers(1)
				d.await(5*time.Minute, ids...)
				busy := d.connections()
				b.ReportMetric(float64(waiting-before)/jobs, "B/waiting")
				b.ReportMetric(float64(d.usedMemory()-before)/jobs, "B/ended")
				b.ReportMetric(float64(busy-alone), "connections")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

func (d *deployment) connections() int {
	d.t.Helper()
	list, err := d.redis.ClientList(d.t.Context()).Result()
	require.NoError(d.t, err)
	return strings.Count(list, "\n")
}
