package main_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// TestKilledMaster cuts the master of a shard off from its replicas, and kills it a second later, all under load; later it
// is started again as what it has become. No job is lost that was accepted, and work goes on once a replica has taken
// over. FOREBAY_WITHOUT_WAIT=1 does the same without WAIT, and tells how many were lost.
func TestKilledMaster(t *testing.T) {
	t.Parallel()
	for name, servers := range replicated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killedMaster(t, servers, os.Getenv("FOREBAY_WITHOUT_WAIT") == "")
		})
	}
}

// failover is how long Redis may take to agree on another master, on a busy machine.
const failover = 30 * time.Second

func killedMaster(t *testing.T, servers func(testing.TB) redisSite, waits bool) {
	t.Helper()
	const jobs, killedAt = 1500, 500
	s := site{servers: servers, slots: 8, regions: []simulator.RegionConfig{
		{Name: "first", Answer: simulator.AnswerFixed, Latency: simulator.Distribution{Min: 20 * time.Millisecond, Max: 60 * time.Millisecond}},
	}}
	d := deploy(t, s)
	settings := producer.Config{Redis: d.redis, Catalog: &d.file.Catalog}
	if waits {
		settings.Replication = producer.Replication{Replicas: 1, Timeout: 2 * time.Second}
	}
	client, err := producer.New(settings)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	d.startWorkers(2)
	d.startSchedulers(2)

	feed := &feeder{t: t, client: client}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { feed.run(jobs) })
	}
	d.eventually("the first jobs are accepted", func() bool { return feed.accepted() >= killedAt })
	killed := d.killMaster()
	d.eventually("a replica has taken over", d.tookOver)
	accepted := feed.accepted()
	d.eventually("jobs are accepted again", func() bool { return feed.accepted() >= min(accepted+20, jobs) })
	d.servers[0].Start() // without it a shard of two servers has nobody to wait for
	group.Wait()
	// Until then it may be taken for what it was, by who asks a Sentinel that has not heard yet.
	d.eventually("the one that was killed follows", func() bool { return role(t, d.servers[0]) == "slave" })

	lost, repeated := 0, 0
	ended := []time.Time{killed}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for _, id := range feed.ids {
		var result tasks.Result
		for {
			if result, err = client.Wait(ctx, id); err == nil || ctx.Err() != nil || errors.Is(err, producer.ErrNotFound) {
				break
			}
			time.Sleep(50 * time.Millisecond) // the failover is not over for everybody
		}
		if errors.Is(err, producer.ErrNotFound) {
			lost++
			continue
		}
		require.NoError(t, err, "job %s", id)
		require.Equal(t, tasks.StatusSucceeded, result.Status, "job %s: %v", id, result.Error)
		repeated += len(result.Attempts) - 1
		if result.FinishedAt.After(killed) {
			ended = append(ended, *result.FinishedAt)
		}
	}
	if waits {
		assert.Zero(t, lost, "of the jobs that were accepted")
	}
	// What the last of them wait for is not the failover.
	slices.SortFunc(ended, time.Time.Compare)
	ended = ended[:min(len(ended), 200)]
	accepting, working := longestGap(append([]time.Time{killed}, feed.times...), killed), longestGap(ended, killed)
	t.Logf("with WAIT %t: %d of %d accepted jobs lost, %d calls in ledgers beyond one per job, %d answered by the provider; longest pause of accepting %s, of finishing %s",
		waits, lost, len(feed.ids), repeated, d.sim.Counters().Total.Answered, accepting.Round(time.Millisecond), working.Round(time.Millisecond))
	assert.Less(t, accepting, failover)
	assert.Less(t, working, failover)
	d.stopWorkers(syscall.SIGTERM)
}

// killMaster cuts the first server off from its replicas and kills it a second later.
func (d *deployment) killMaster() time.Time {
	d.t.Helper()
	master := redis.NewClient(redistest.Options(d.servers[0].Addr))
	defer func() { _ = master.Close() }()
	replicas := d.replicas()
	for _, replica := range replicas {
		replica.Pause()
	}
	require.NoError(d.t, master.Do(d.t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	time.Sleep(time.Second)
	d.servers[0].Kill()
	killed := time.Now()
	for _, replica := range replicas {
		replica.Resume()
	}
	return killed
}

// replicas are those of the first server.
func (d *deployment) replicas() []*redistest.Server {
	if len(d.servers) > 3 {
		return d.servers[3:4] // of a cluster
	}
	return d.servers[1:]
}

// tookOver tells that a replica of the first server is a master.
func (d *deployment) tookOver() bool {
	return slices.ContainsFunc(d.replicas(), func(replica *redistest.Server) bool { return role(d.t, replica) == "master" })
}

// role is what a server says that it is.
func role(t testing.TB, server *redistest.Server) any {
	t.Helper()
	client := redis.NewClient(redistest.Options(server.Addr))
	defer func() { _ = client.Close() }()
	said, _ := client.Do(t.Context(), "ROLE").Slice()
	if len(said) == 0 {
		return nil
	}
	return said[0]
}

// startSchedulers starts schedulers that are ended with the test.
func (d *deployment) startSchedulers(n int) []*process {
	d.t.Helper()
	var started []*process
	for range n {
		scheduler, err := d.launch("scheduler", "--log-format", "json")
		require.NoError(d.t, err)
		d.t.Cleanup(scheduler.kill)
		started = append(started, scheduler)
	}
	return started
}

// feeder enqueues jobs, each until it is accepted.
type feeder struct {
	t      *testing.T
	client *producer.Client
	next   atomic.Int64

	mu    sync.Mutex
	ids   []string
	times []time.Time
}

func (f *feeder) accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ids)
}

func (f *feeder) run(jobs int64) {
	for {
		number := f.next.Add(1)
		if number > jobs || f.t.Context().Err() != nil {
			return
		}
		job := tasks.Job{ID: fmt.Sprintf("job-%d", number), TaskType: "fast_summary", Input: text}
		for {
			ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
			_, err := f.client.Enqueue(ctx, job)
			cancel()
			if err == nil {
				break
			}
			if f.t.Context().Err() != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		f.mu.Lock()
		f.ids, f.times = append(f.ids, job.ID), append(f.times, time.Now())
		f.mu.Unlock()
	}
}

// longestGap is the longest time without an event after a moment.
func longestGap(times []time.Time, after time.Time) time.Duration {
	slices.SortFunc(times, time.Time.Compare)
	var longest time.Duration
	for i := 1; i < len(times); i++ {
		if !times[i].Before(after) {
			longest = max(longest, times[i].Sub(times[i-1]))
		}
	}
	return longest
}

// TestWorkersShareTheWork: however many there are, the one with the most jobs has at most 1.3 times as many as the one
// with the fewest.
func TestWorkersShareTheWork(t *testing.T) {
	t.Parallel()
	for _, count := range []int{2, 4, 8} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			const few = 4
			d := deploy(t, site{slots: few, fsync: "everysec", regions: []simulator.RegionConfig{
				{Name: "first", Answer: simulator.AnswerFixed, Latency: simulator.Distribution{Min: 150 * time.Millisecond, Max: 250 * time.Millisecond}},
			}})
			d.startWorkers(count)
			ids := d.enqueueJobs("job", count*few*20)
			results := d.await(3*time.Minute, ids...)
			d.checkOnce(results)
			done := map[string]int{}
			for _, result := range results {
				done[result.Attempts[0].Worker]++
			}
			require.Len(t, done, count, "every worker has some")
			least, most := len(ids), 0
			for _, jobs := range done {
				least, most = min(least, jobs), max(most, jobs)
			}
			t.Logf("%d workers: %d to %d jobs each, %.2f", count, least, most, float64(most)/float64(least))
			assert.LessOrEqual(t, float64(most)/float64(least), 1.3)
			d.stopWorkers(syscall.SIGTERM)
		})
	}
}

// TestWorkersComeAndGo: workers that are added and told to stop in mid-run lose nothing, and no call is made twice.
func TestWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	const jobs = 1200
	d := deploy(t, site{slots: 8, fsync: "everysec", regions: []simulator.RegionConfig{
		{Name: "first", Answer: simulator.AnswerFixed, Latency: simulator.Distribution{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond}},
	}})
	d.startSchedulers(1)
	ids := d.enqueueJobs("job", jobs)
	going := d.startWorkers(2)
	for change := 1; change <= 5; change++ {
		d.eventually("some jobs are done", func() bool { return d.asked() >= change*jobs/8 })
		going = append(going, d.startWorkers(2)...)
		for _, leaving := range going[:2] {
			require.NoError(t, leaving.cmd.Process.Signal(syscall.SIGTERM))
		}
		for _, leaving := range going[:2] {
			<-leaving.ended
			require.NoError(t, leaving.err)
		}
		going = going[2:]
	}
	d.checkOnce(d.await(3*time.Minute, ids...))
	assert.Equal(t, jobs, d.asked(), "one call each")
	d.stopWorkers(syscall.SIGTERM)
}

// TestKilledSchedulers kills the one scheduler and the other every few seconds for a hundred ticks: every tick has its
// job once, and no round of probes comes twice.
func TestKilledSchedulers(t *testing.T) {
	t.Parallel()
	const ticks = 100
	var lists atomic.Int64
	d := deploy(t, site{
		fsync:   "everysec",
		regions: []simulator.RegionConfig{{Name: "first", Answer: simulator.AnswerFixed}},
		provider: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/models") {
					lists.Add(1)
				}
				next.ServeHTTP(w, r)
			})
		},
		more: `
health: {interval: 1s}
schedules:
  - {name: often, cron: "@every 1s", missed: all, job: {task_type: fast_summary, input: "Water waits."}}
`,
	})
	d.startWorkers(1)
	schedulers := d.startSchedulers(2)
	begun := time.Now()
	kills := 0
	for made := 0; made < ticks; {
		select {
		case <-t.Context().Done():
			return
		case <-time.After(3 * time.Second):
		}
		schedulers[kills%2].kill()
		schedulers[kills%2] = d.startSchedulers(1)[0]
		kills++
		made = len(d.ticks())
		require.Less(t, time.Since(begun), 5*time.Minute, "%d ticks after %d kills", made, kills)
	}
	for _, scheduler := range schedulers {
		scheduler.kill()
	}
	rounds := int64(time.Since(begun)/time.Second) + 2
	made := d.ticks()
	slices.Sort(made)
	first, err := time.Parse(time.RFC3339, made[0])
	require.NoError(t, err)
	for i, tick := range made {
		at, err := time.Parse(time.RFC3339, tick)
		require.NoError(t, err)
		require.Equal(t, first.Add(time.Duration(i)*time.Second), at, "ticks follow each other, none twice and none left out")
	}
	t.Logf("%d ticks and %d rounds of probes in %s, over %d kills", len(made), lists.Load(), time.Since(begun).Round(time.Second), kills)
	assert.LessOrEqual(t, lists.Load(), rounds, "no round twice")
	assert.Greater(t, lists.Load(), int64(ticks/4), "rounds go on")
	d.stopWorkers(syscall.SIGTERM)
}

// ticks are those that have a job.
func (d *deployment) ticks() []string {
	d.t.Helper()
	byJob := map[string]string{} // a job that ends meanwhile may be listed twice
	for cursor := ""; ; {
		page, err := d.producer.List(d.t.Context(), producer.Filter{}, cursor, 1000)
		require.NoError(d.t, err)
		for _, row := range page.Jobs {
			if tick := row.Metadata["tick"]; tick != "" {
				byJob[row.ID] = tick
			}
		}
		if cursor = page.Next; cursor == "" {
			return slices.Collect(maps.Values(byJob))
		}
	}
}

// TestFullRedis fills Redis in mid-run: producers are told, what runs ends with its results, and all goes on by itself
// when there is room again.
func TestFullRedis(t *testing.T) {
	t.Parallel()
	const before, during = 400, 20
	d := deploy(t, site{slots: 8, regions: []simulator.RegionConfig{
		{Name: "first", Answer: simulator.AnswerFixed, Latency: simulator.Distribution{Min: 100 * time.Millisecond, Max: 300 * time.Millisecond}},
	}})
	d.startSchedulers(1)
	d.startWorkers(2)
	ids := d.enqueueJobs("before", before)
	d.eventually("some are done", func() bool { return d.asked() > before/8 })

	ctx := t.Context()
	set := func(name, value string) { require.NoError(t, d.redis.ConfigSet(ctx, name, value).Err()) }
	// Above the mark, and below the limit: nothing is accepted, everything else works.
	used := d.usedMemory()
	set("maxmemory", fmt.Sprint(used*5/4))
	d.eventually("the producer has looked again", func() bool { return d.producer.Room(ctx) != nil })
	_, refused := d.producer.Enqueue(ctx, tasks.Job{ID: "refused", TaskType: "fast_summary", Input: text})
	require.ErrorIs(t, refused, producer.ErrFull)
	require.ErrorIs(t, refused, producer.ErrUnaccepted)
	output, err := d.command("enqueue", "--type", "fast_summary", "--id", "refused", "--input", text).CombinedOutput()
	require.Error(t, err)
	assert.Regexp(t, `job refused was not accepted: Redis has no room for new jobs: Redis uses \d+ % of its maxmemory of \d+ MiB, and from 70 % on no job is accepted`, string(output))
	asked := d.asked()
	d.eventually("running jobs go on", func() bool { return d.asked() > asked+16 })

	// Full: what runs keeps its answers until they can be written.
	set("maxmemory", "1mb")
	d.eventually("nothing is begun any more", func() bool {
		asked := d.asked()
		time.Sleep(time.Second)
		return d.asked() == asked
	})
	_, err = d.newProducer().Enqueue(ctx, tasks.Job{ID: "refused", TaskType: "fast_summary", Input: text})
	require.ErrorIs(t, err, producer.ErrFull)
	time.Sleep(35 * time.Second) // longer than asynq's leases

	set("maxmemory", "0")
	more := d.enqueueJobsWhenRoom("after", during)
	results := d.await(3*time.Minute, append(ids, more...)...)
	d.checkOnce(results)
	t.Logf("%d jobs, %d calls", len(results), d.asked())
	assert.Equal(t, before+during, d.asked(), "no answer was paid for twice")
	d.stopWorkers(syscall.SIGTERM)
}

func (d *deployment) usedMemory() int64 {
	d.t.Helper()
	stats, err := d.redis.Info(d.t.Context(), "memory").Result()
	require.NoError(d.t, err)
	_, after, _ := strings.Cut(stats, "used_memory:")
	var used int64
	_, err = fmt.Sscan(after, &used)
	require.NoError(d.t, err)
	return used
}

// enqueueJobsWhenRoom is enqueueJobs for a Redis that may still be taken for full.
func (d *deployment) enqueueJobsWhenRoom(name string, n int) []string {
	d.t.Helper()
	d.eventually("there is room", func() bool { return d.producer.Room(d.t.Context()) == nil })
	return d.enqueueJobs(name, n)
}
