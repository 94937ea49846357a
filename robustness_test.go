package main_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// A worker dies with calls out, and a scheduler sees it: another worker calls again. It takes 12 to 17 seconds on
// a quiet machine, and is held to 30 here.
func TestKilledWorkerWithAScheduler(t *testing.T) {
	t.Parallel()
	for name, leaderDies := range map[string]bool{"": false, "the leader dies, too": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testKilledWorker(t, leaderDies)
		})
	}
}

func testKilledWorker(t *testing.T, leaderDies bool) {
	t.Helper()
	const jobs = 50
	d := deploy(t, site{slots: jobs, callTimeout: 4 * time.Minute})
	require.NoError(t, d.sim.Region("first").SetOutage("hang"))
	startScheduler := func() *exec.Cmd {
		scheduler := d.command("scheduler", "--log-format", "json")
		require.NoError(t, scheduler.Start())
		t.Cleanup(func() {
			_ = scheduler.Process.Kill()
			_ = scheduler.Wait()
		})
		return scheduler
	}
	leader, within := startScheduler(), 30*time.Second
	victim := d.startWorkers(1)[0]
	hanging := d.enqueueJobs("hanging", jobs)
	d.eventually("all calls are out", func() bool { return d.asked() == jobs })
	d.startWorkers(1)
	time.Sleep(6 * time.Second) // the leader judges only by what it has itself watched
	if leaderDies {
		startScheduler() // the next leader
		within = 45 * time.Second
	}
	victim.kill()
	if leaderDies {
		require.NoError(t, leader.Process.Kill())
	}
	killed := time.Now()
	d.sim.Region("first").ClearOutage()
	var latest time.Duration
	for _, result := range d.await(2*time.Minute, hanging...) {
		require.Equal(t, tasks.StatusSucceeded, result.Status)
		require.Len(t, result.Attempts, 2)
		latest = max(latest, result.Attempts[1].StartedAt.Sub(killed))
		assert.True(t, result.Attempts[0].MaybeBilled)
		assert.Less(t, result.Attempts[1].StartedAt.Sub(killed), within)
		assert.Equal(t, simulator.JobCount{Asked: 2, Answered: 1}, d.sim.Counters().Jobs[result.ID])
	}
	t.Logf("the last of %d calls was repeated %s after the kill", jobs, latest.Round(100*time.Millisecond))
	d.stopWorkers(syscall.SIGTERM)
}

// A worker dies with calls out while another lives: the other does its jobs.
func TestKilledWorker(t *testing.T) {
	const jobs = 8
	d := deploy(t, site{slots: jobs, callTimeout: 4 * time.Minute})
	require.NoError(t, d.sim.Region("first").SetOutage("hang"))
	victim := d.startWorkers(1)[0]
	hanging := d.enqueueJobs("hanging", jobs)
	d.eventually("all calls are out", func() bool { return d.asked() == jobs })
	d.startWorkers(1)
	victim.kill()
	killed := time.Now()
	d.sim.Region("first").ClearOutage()
	later := d.enqueueJobs("later", jobs)

	// It takes asynq a minute or two to see that somebody has died. All other tests run meanwhile.
	t.Parallel()
	for _, result := range d.await(10*time.Minute, later...) {
		assert.Len(t, result.Attempts, 1, "the living worker works on")
		assert.Less(t, result.FinishedAt.Sub(killed), time.Minute)
	}
	for _, result := range d.await(10*time.Minute, hanging...) {
		require.Equal(t, tasks.StatusSucceeded, result.Status)
		assert.Less(t, result.FinishedAt.Sub(killed), 130*time.Second)
		assert.Equal(t, 1, result.Run)
		require.Len(t, result.Attempts, 2, "the call that was lost, and its repetition")
		lost, answered := result.Attempts[0], result.Attempts[1]
		assert.True(t, lost.Ended)
		assert.True(t, lost.MaybeBilled)
		assert.Equal(t, jobstore.CodeWorkerGone, lost.Code)
		assert.Empty(t, answered.Class)
		assert.NotEqual(t, lost.Worker, answered.Worker)
		assert.Equal(t, simulator.JobCount{Asked: 2, Answered: 1}, d.sim.Counters().Jobs[result.ID])
	}
	assert.Equal(t, 3*jobs, d.asked())
	d.awaitEmpty(tasks.PriorityDefault)
	d.stopWorkers(syscall.SIGTERM)
}

// awaitEmpty waits until asynq has nothing left to do in a queue, and nothing to repeat.
func (d *deployment) awaitEmpty(priority tasks.Priority) {
	d.t.Helper()
	d.eventually("the queue is empty", func() bool {
		info := d.queue(priority)
		return info.Pending+info.Active+info.Retry+info.Scheduled+info.Archived == 0
	})
	assert.Zero(d.t, d.redis.Exists(d.t.Context(), "asynq:{"+string(priority)+"}:lease").Val(), "no lease is left to expire")
}

// Redis goes away for a moment at the worst of moments: a job is committed and its task to be acknowledged. And at
// the others.
func TestBlip(t *testing.T) {
	t.Parallel()
	record := func(id string) string { return "forebay:{job:" + id + "}" }
	ack := func(request []byte, id string) bool { return names(request, "asynq:{default}:t:"+id) } // nothing else does
	commit := func(request []byte, id string) bool { return names(request, record(id)+":done") }
	intent := func(request []byte, id string) bool {
		return names(request, record(id)) && bytes.Contains(request, []byte(`"call_deadline":`)) && !commit(request, id)
	}
	claim := func(request []byte, _ string) bool {
		return bytes.Contains(request, []byte("asynq:{default}:forebay:claim:"))
	}
	var group sync.WaitGroup // side by side: each waits for asynq to repeat its ack
	defer group.Wait()
	for _, test := range []struct {
		name      string
		at        func(request []byte, id string) bool
		loseReply bool
	}{
		{"the ack is lost", ack, false},
		{"the reply to the ack is lost", ack, true},
		{"the commit is lost", commit, false},
		{"the reply to the commit is lost", commit, true},
		{"the intent is lost", intent, false},
		{"the reply to the intent is lost", intent, true},
		{"the claim is lost", claim, false},
		{"the reply to the claim is lost", claim, true},
	} {
		group.Go(func() {
			t.Run(test.name, func(t *testing.T) {
				const jobs = 8
				d := deploy(t, site{regions: []simulator.RegionConfig{
					{Name: "first", Latency: simulator.Distribution{Min: 300 * time.Millisecond}},
				}})
				ids := d.enqueueJobs("job", jobs)
				p := newProxy(t, d.server.Addr, test.loseReply, func(request []byte) bool {
					return slices.ContainsFunc(ids, func(id string) bool { return test.at(request, id) })
				})
				d.embedWorker(p.addr)
				results := d.await(time.Minute, ids...)
				d.awaitEmpty(tasks.PriorityDefault)
				assert.EqualValues(t, 1, p.cuts.Load(), "there was a blip")
				d.checkOnce(results)
				assert.Equal(t, jobs, d.asked(), "nothing was called again")
				assert.Equal(t, jobs, d.queue(tasks.PriorityDefault).Completed)
			})
		})
	}
}

// names tells whether a request has a key among its arguments.
func names(request []byte, key string) bool {
	return bytes.Contains(request, fmt.Appendf(nil, "$%d\r\n%s\r\n", len(key), key))
}

// checkOnce checks that each job was called once, and answered.
func (d *deployment) checkOnce(results []tasks.Result) {
	d.t.Helper()
	counters := d.sim.Counters()
	for _, result := range results {
		assert.Equal(d.t, tasks.StatusSucceeded, result.Status, "job %s: %v", result.ID, result.Error)
		assert.Equal(d.t, simulator.JobCount{Asked: 1, Answered: 1}, counters.Jobs[result.ID], "job %s", result.ID)
		answers := 0
		for _, attempt := range result.Attempts {
			assert.True(d.t, attempt.Ended)
			if attempt.Class == "" {
				answers++
			}
		}
		assert.Equal(d.t, 1, answers, "answers in the ledger of job %s", result.ID)
	}
}

// Redis is away for a minute, dead or frozen, with calls out and others about to begin: the answers that come
// meanwhile are kept until it is back.
func TestOutageOfRedis(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup // side by side: they mostly wait
	defer group.Wait()
	for name, outage := range map[string]struct{ begin, end func(*redistest.Server) }{
		"killed": {(*redistest.Server).Kill, (*redistest.Server).Start},
		"frozen": {(*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		group.Go(func() {
			t.Run(name, func(t *testing.T) {
				d := deploy(t, site{regions: []simulator.RegionConfig{
					{Name: "first", Latency: simulator.Distribution{Min: 200 * time.Millisecond, Max: 1500 * time.Millisecond}},
				}})
				ids := d.enqueueJobs("job", 4*slots)
				worker := d.startWorkers(1)[0]
				answered := func() int64 { return d.sim.Counters().Total.Answered }
				d.eventually("calls are out, and some answered", func() bool { return answered() >= slots })
				outage.begin(d.server)
				before := answered()
				time.Sleep(time.Minute)
				assert.Greater(t, answered(), before, "answers came while Redis was away")
				assert.True(t, worker.alive())
				outage.end(d.server)

				d.checkOnce(d.await(4*time.Minute, ids...)) // asynq alone may take two to see whose lease ran out
				assert.Equal(t, len(ids), d.asked(), "nothing was called twice")
				d.awaitEmpty(tasks.PriorityDefault)
				assert.True(t, worker.alive())
				d.stopWorkers(syscall.SIGTERM)
			})
		})
	}
}

// A worker that is told to stop while Redis is away does not leave before it has written what it was answered.
func TestDrainWithoutRedis(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{regions: []simulator.RegionConfig{{Name: "first", Latency: simulator.Distribution{Min: time.Second}}}})
	ids := d.enqueueJobs("job", slots)
	worker := d.startWorkers(1)[0]
	d.eventually("all calls are out", func() bool { return d.asked() == slots })
	d.server.Kill()
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	time.Sleep(4 * time.Second)
	assert.True(t, worker.alive())
	d.server.Start()
	d.eventually("the worker leaves", func() bool { return !worker.alive() })
	require.NoError(t, worker.err)
	var results []tasks.Result
	for _, id := range ids {
		results = append(results, d.result(id))
	}
	d.checkOnce(results)
	assert.Equal(t, slots, d.asked())
	assert.Equal(t, len(ids), d.queue(tasks.PriorityDefault).Completed, "and acknowledged")
}

// A worker that is told to stop finishes the calls that are out and begins no others; its successor does the rest.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	const few, jobs = 4, 12
	d := deploy(t, site{slots: few, regions: []simulator.RegionConfig{{Name: "first", Latency: simulator.Distribution{Min: time.Second}}}})
	ids := d.enqueueJobs("job", jobs)
	first := d.startWorkers(1)[0]
	d.eventually("all slots are busy", func() bool { return d.asked() == few })
	d.stopWorkers(syscall.SIGTERM)
	assert.False(t, first.alive())
	assert.Equal(t, few, d.asked(), "nothing new was begun")
	assert.EqualValues(t, few, d.sim.Counters().Total.Answered, "the calls that were out have been let finish")
	info := d.queue(tasks.PriorityDefault)
	assert.Equal(t, jobs-few, info.Pending, "what was not begun is there for others at once")
	assert.Zero(t, info.Active+info.Retry+info.Scheduled)

	d.startWorkers(1)
	d.checkOnce(d.await(4*time.Minute, ids...)) // asynq alone may take two to see whose lease ran out
	assert.Equal(t, jobs, d.asked())
	d.stopWorkers(syscall.SIGTERM)
}
