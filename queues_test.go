package main_test

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

func withPriority(priority tasks.Priority) func(*tasks.Job) {
	return func(job *tasks.Job) { job.Priority = priority }
}

// One queue alone has every slot; what is more urgent and comes later has the next ones that are freed.
func TestBulkUsesEverySlot(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{regions: []simulator.RegionConfig{
		{Name: "first", Latency: simulator.Distribution{Min: 800 * time.Millisecond, Max: 1200 * time.Millisecond}},
	}})
	bulk := d.enqueueJobs("bulk", 40, withPriority(tasks.PriorityBulk))
	d.startWorkers(1)
	d.eventually("every slot is busy", func() bool { return d.sim.Counters().Total.InFlight == slots })

	came := time.Now()
	critical := d.enqueueJobs("critical", 4, withPriority(tasks.PriorityCritical))
	results := d.await(time.Minute, append(critical, bulk...)...)
	assert.LessOrEqual(t, mostAtOnce(results), slots)
	var places []int
	for i, id := range starts(results, came) {
		if strings.HasPrefix(id, "critical") {
			places = append(places, i)
			assert.Less(t, i, 10, "the freed slots go to the critical jobs first")
		}
	}
	t.Logf("places of the critical jobs among those begun after they came: %v", places)
	assert.Len(t, places, len(critical))
	d.checkOnce(results)
	d.stopWorkers(syscall.SIGTERM)
}

// While all queues have work, they share the slots 6:3:1, in however many shards it stands.
func TestShares(t *testing.T) {
	t.Parallel()
	for _, shards := range []keyspace.Shards{1, 8} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			t.Parallel()
			testShares(t, shards)
		})
	}
}

func testShares(t *testing.T, shards keyspace.Shards) {
	t.Helper()
	const each, counted = 90, 100
	d := deploy(t, site{slots: 4, shards: shards, regions: []simulator.RegionConfig{
		{Name: "first", Latency: simulator.Distribution{Min: 15 * time.Millisecond, Max: 45 * time.Millisecond}},
	}})
	var ids []string
	for _, priority := range tasks.Priorities() {
		ids = append(ids, d.enqueueJobs(string(priority), each, withPriority(priority))...)
	}
	d.startWorkers(1)
	results := d.await(time.Minute, ids...)
	shares := map[string]int{}
	for _, id := range starts(results, time.Time{})[:counted] {
		queue, _, _ := strings.Cut(id, "-")
		shares[queue]++
	}
	t.Logf("of the first %d: %v", counted, shares)
	assert.InDelta(t, 60, shares["critical"], 15)
	assert.InDelta(t, 30, shares["default"], 12)
	assert.InDelta(t, 10, shares["bulk"], 8)
	assert.Positive(t, shares["bulk"], "nobody starves")
	d.checkOnce(results)
	d.stopWorkers(syscall.SIGTERM)
}

// mostAtOnce is how many of the jobs' calls were out at the same time, by the ledger.
func mostAtOnce(results []tasks.Result) int {
	most := 0
	for _, one := range results {
		at, out := one.Attempts[0].StartedAt, 0
		for _, other := range results {
			attempt := other.Attempts[0]
			if !attempt.StartedAt.After(at) && attempt.StartedAt.Add(time.Duration(attempt.LatencyMS)*time.Millisecond).After(at) {
				out++
			}
		}
		most = max(most, out)
	}
	return most
}

// starts are the jobs whose first call was begun after a time, in the order of these calls.
func starts(results []tasks.Result, after time.Time) []string {
	begun := slices.DeleteFunc(slices.Clone(results), func(r tasks.Result) bool { return r.Attempts[0].StartedAt.Before(after) })
	slices.SortStableFunc(begun, func(a, b tasks.Result) int { return a.Attempts[0].StartedAt.Compare(b.Attempts[0].StartedAt) })
	var ids []string
	for _, result := range begun {
		ids = append(ids, result.ID)
	}
	return ids
}

// A worker with nothing to do leaves Redis alone: at most 3 commands a second for each queue, and 2 for the process:
// its liveness, and what keeps its subscriptions open.
// Every shard of every queue costs the same, the unsharded ones too.
func TestIdleWorker(t *testing.T) {
	t.Parallel()
	for _, shards := range []keyspace.Shards{1, 8} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			t.Parallel()
			testIdleWorker(t, shards)
		})
	}
}

func testIdleWorker(t *testing.T, shards keyspace.Shards) {
	t.Helper()
	const watched, most, process = 10 * time.Second, 3.0, 2.0
	d := deploy(t, site{shards: shards})
	d.startWorkers(1)
	d.await(time.Minute, d.enqueueJobs("warm-up", 1)...) // scripts are loaded, connections open
	time.Sleep(time.Second)
	var queues []string
	for _, shard := range envelope.ShardsOf(d.store.Keys(), shards) {
		queues = append(queues, shard.Name)
	}
	perQueue, all := d.commands(watched, queues)
	t.Logf("commands a second: %.1f in all; %v", float64(all)/watched.Seconds(), perQueue)
	assert.LessOrEqual(t, float64(all)/watched.Seconds(), most*float64(len(queues))+process)
	for _, queue := range queues {
		count := perQueue[queue]
		assert.LessOrEqual(t, float64(count)/watched.Seconds(), most, "queue %s", queue)
		assert.Positive(t, count, "the queue %s is watched", queue)
	}
	d.stopWorkers(syscall.SIGTERM)
}

// commands counts what clients send to Redis in a time, in all and by the one of the queues whose keys are named. What a
// script runs inside counts as one.
func (d *deployment) commands(watched time.Duration, queues []string) (perQueue map[string]int, all int) {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.server.Addr)
	require.NoError(d.t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("MONITOR\r\n"))
	require.NoError(d.t, err)
	require.NoError(d.t, conn.SetReadDeadline(time.Now().Add(watched)))
	perQueue = map[string]int{}
	lines := bufio.NewScanner(conn) // a line is `+<time> [<database> <client, or lua>] "<command>" ...`
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, " lua] ") || !strings.Contains(line, "] ") {
			continue
		}
		all++
		for _, queue := range queues {
			if strings.Contains(line, "{"+queue+"}") {
				perQueue[queue]++
			}
		}
	}
	return perQueue, all
}
