package main_test

import (
	"fmt"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
)

const fleetWorkers = 4

// BenchmarkSaturation has four worker processes do as many jobs as three endpoints allow in somewhat more than a minute,
// each of which enforces its limits over a sliding window. It reports the time it took, the ideal (what is not in the
// bursts, at the rate of the limits), their ratio, and how often the provider answered 429.
func BenchmarkSaturation(b *testing.B) {
	for b.Loop() {
		limits := []simulator.Limits{{RequestsPerMinute: 600}, {RequestsPerMinute: 900}, {TokensPerMinute: 600_000}}
		s := site{slots: 64, fsync: "everysec", limits: limits}
		for i := range limits {
			s.regions = append(s.regions, simulator.RegionConfig{
				Name: fmt.Sprintf("region-%d", i), Answer: simulator.AnswerFixed, Limits: limits[i],
				Latency: simulator.Distribution{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond},
			})
		}
		d := deploy(b, s)
		const jobs = 2400
		ids := d.enqueueJobs("job", jobs, func(job *tasks.Job) { job.Priority = tasks.PriorityBulk })
		started := time.Now()
		d.startWorkers(fleetWorkers)
		began := time.Now()
		results := d.await(5*time.Minute, ids...)
		finished := began
		need := 0
		for _, result := range results {
			require.Equal(b, tasks.StatusSucceeded, result.Status)
			if result.FinishedAt.After(finished) {
				finished = *result.FinishedAt
			}
			need = result.Usage.PromptTokens + 1024
		}
		var bursts, rates float64 // calls, and calls a second
		for _, l := range limits {
			burst, rate := allowed(l.RequestsPerMinute, 1)
			if l.RequestsPerMinute == 0 {
				burst, rate = allowed(l.TokensPerMinute, need)
			}
			bursts, rates = bursts+burst, rates+rate
		}
		ideal := time.Duration((jobs - bursts) / rates * float64(time.Second))
		took := finished.Sub(began)
		b.Logf("%d calls answered, %d refused; started in %s", d.sim.Counters().Total.Answered,
			d.sim.Counters().Total.Kinds[simulator.KindRateLimit], began.Sub(started))
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(ideal.Seconds(), "ideal-s")
		b.ReportMetric(took.Seconds()/ideal.Seconds(), "ratio")
		b.ReportMetric(float64(d.sim.Counters().Total.Kinds[simulator.KindRateLimit]), "429s")
		b.ReportMetric(0, "ns/op")
	}
}

// allowed are the calls that may begin at once, and those a second afterwards, by the limits as DESIGN has them: a burst
// of one second's worth, and (limit - burst) / 60.
func allowed(perMinute, need int) (burst, rate float64) {
	limit := float64(perMinute) / float64(need)
	burst = math.Max(1, math.Floor(limit/60))
	return burst, (limit - burst) / 60
}

// BenchmarkOutage does the same work twice with 1, 2, 4 and 8 worker processes: with three healthy regions, and with the
// first one dead. It reports the calls that the dead one was asked, what they may be at most (the threshold, those in
// flight when its breaker opened, and the probes), and the jobs a second as a share of those without a sick region.
func BenchmarkOutage(b *testing.B) {
	const slots, seconds = 8, 30
	latency := simulator.Distribution{Min: 150 * time.Millisecond, Max: 250 * time.Millisecond}
	run := func(b *testing.B, workers int, dead bool) (rate float64, d *deployment) {
		b.Helper()
		d = deploy(b, site{slots: slots, fsync: "everysec", regions: []simulator.RegionConfig{
			{Name: "first", Answer: simulator.AnswerFixed, Latency: latency},
			{Name: "second", Answer: simulator.AnswerFixed, Latency: latency},
			{Name: "third", Answer: simulator.AnswerFixed, Latency: latency},
		}})
		if dead {
			require.NoError(b, d.sim.Region("first").SetOutage("500"))
		}
		jobs := workers * slots * seconds * 5
		ids := d.enqueueJobs("job", jobs)
		d.startWorkers(workers)
		first, last := time.Time{}, time.Time{}
		for _, result := range d.await(5*time.Minute, ids...) {
			require.Equal(b, tasks.StatusSucceeded, result.Status)
			if first.IsZero() || result.StartedAt.Before(first) {
				first = *result.StartedAt
			}
			if result.FinishedAt.After(last) {
				last = *result.FinishedAt
			}
		}
		return float64(jobs) / last.Sub(first).Seconds(), d
	}
	for _, workers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("%d", workers), func(b *testing.B) {
			for b.Loop() {
				well, d := run(b, workers, false)
				d.stopWorkers(syscall.SIGTERM)
				sick, d := run(b, workers, true)
				state := d.breaker()
				asked := d.sim.Counters().Regions["first"].Asked
				b.ReportMetric(float64(asked), "dead-calls")
				b.ReportMetric(float64(threshold+workers*slots)+float64(state.Probes), "at-most")
				b.ReportMetric(well, "jobs/s-healthy")
				b.ReportMetric(sick/well, "ratio")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}
