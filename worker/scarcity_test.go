package worker_test

import (
	"context"
	"crypto/sha1" // as Redis names scripts
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker"
)

// scarcity is a fleet of workers on one Redis, in fake time.
type scarcity struct {
	*bench
	asks  *asks
	queue *asynq.Client
}

// asks counts what the gate is asked.
type asks struct {
	sha   string
	count atomic.Int64
}

func newAsks(t *testing.T) *asks {
	t.Helper()
	source, err := os.ReadFile("../tasks/gate/admit.lua")
	require.NoError(t, err)
	sum := sha1.Sum(source) // as Redis names scripts
	return &asks{sha: hex.EncodeToString(sum[:])}
}

func (a *asks) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *asks) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		for _, command := range commands {
			a.see(command)
		}
		return next(ctx, commands)
	}
}

func (a *asks) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		a.see(command)
		return next(ctx, command)
	}
}

// see counts the calls that one admit script asks for: seven arguments each, behind those of the scopes.
func (a *asks) see(command redis.Cmder) {
	args := command.Args()
	if len(args) < 3 || args[0] != "evalsha" || args[1] != a.sha {
		return
	}
	keys, _ := args[2].(int)
	given := args[3+keys:]
	scopes, _ := strconv.Atoi(fmt.Sprint(given[0]))
	a.count.Add(int64(len(given)-3-5*scopes) / 7)
}

// newScarcity starts workers of so many slots before one endpoint that allows so many requests a minute, and enforces
// it.
func newScarcity(t *testing.T, perMinute, workers, slots int) *scarcity {
	t.Helper()
	return newFleet(t, workers, slots, []simulator.RegionConfig{{
		Name: "a-1", Answer: simulator.AnswerFixed, Latency: simulator.Distribution{Min: 50 * time.Millisecond, Max: 250 * time.Millisecond},
		Limits: simulator.Limits{RequestsPerMinute: perMinute},
	}}, func(c *catalog.Catalog) {
		c.Accounts["a"].Limits.RequestsPerMinute = perMinute
		c.Endpoints = map[string]*catalog.Endpoint{"a-1": c.Endpoints["a-1"]}
	})
}

// newFleet starts workers of so many slots in fake time.
func newFleet(
	t *testing.T, workers, slots int, regions []simulator.RegionConfig, change ...func(*catalog.Catalog),
) *scarcity {
	t.Helper()
	plain, server := redistest.InBubble(t)
	server.ClockTTL(false) // it looks at all keys with every command, and nothing expires here
	options := *plain.Options()
	options.PoolSize = workers*slots + 50
	client := redis.NewClient(&options)
	t.Cleanup(func() { _ = client.Close() })
	s := &scarcity{asks: newAsks(t), queue: asynq.NewClientFromRedisClient(client)}
	client.AddHook(s.asks)
	sim, err := simulator.New(simulator.Config{MaxJobs: simulator.NoJobs, Regions: regions})
	require.NoError(t, err)
	listener := sim.Listen()
	t.Cleanup(func() {
		_ = sim.Close()
		_ = listener.Close()
	})
	s.bench = &bench{t: t, redis: client, server: server, sim: sim, dial: listener.DialContext, catalog: testCatalog(t, change...)}
	s.gate = gate.New(client, keyspace.New(""), s.catalog)
	s.store, err = jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.store.Close() })
	for range workers {
		w, err := worker.New(worker.Config{Redis: client, Catalog: s.catalog, Dial: s.dial, Slots: slots, Log: s.log})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, w.Shutdown(context.Background())) })
		require.NoError(t, w.Start(t.Context()))
	}
	return s
}

func (s *scarcity) enqueue(priority tasks.Priority, number int) string {
	job := tasks.Job{ID: fmt.Sprintf("%s-%d", priority, number), TaskType: "summary", Input: document, Priority: priority}
	prepared, err := s.catalog.Prepare(job, time.Now())
	require.NoError(s.t, err)
	_, err = s.store.Create(s.t.Context(), jobstore.NewJob{Job: prepared.Job, Fingerprint: prepared.Fingerprint, PromptTokens: prepared.PromptTokens})
	require.NoError(s.t, err)
	task, options, err := envelope.New(s.store.Keys(), prepared.Job, "", 1)
	require.NoError(s.t, err)
	_, err = s.queue.Enqueue(task, options...)
	require.NoError(s.t, err)
	return job.ID
}

func (s *scarcity) asksPerJob(jobs int) float64 { return float64(s.asks.count.Load()) / float64(jobs) }

func (s *scarcity) await(jobs int) {
	for s.ended() < int64(jobs) {
		time.Sleep(100 * time.Millisecond)
	}
}

// ended counts the jobs that have ended.
func (s *scarcity) ended() (sum int64) {
	for shard := range keyspace.IndexShards {
		sum += s.redis.ZCard(s.t.Context(), s.store.Keys().Index(shard, "ended")).Val()
	}
	return sum
}

// waits are how long jobs waited from their acceptance to their call, sorted.
func (s *scarcity) waits(ids []string) []time.Duration {
	var waits []time.Duration
	for _, id := range ids {
		result := s.result(id)
		require.Equal(s.t, tasks.StatusSucceeded, result.Status, id)
		require.Len(s.t, result.Attempts, 1, id)
		waits = append(waits, result.Attempts[0].StartedAt.Sub(*result.CreatedAt))
	}
	slices.Sort(waits)
	return waits
}

// scarcityJobs is how many jobs the tests of scarcity and outage do: few, unless FOREBAY_SCARCITY_JOBS says otherwise.
// With 10,000 they take minutes.
func scarcityJobs(t *testing.T) int {
	t.Helper()
	text, given := os.LookupEnv("FOREBAY_SCARCITY_JOBS")
	if !given {
		return 240
	}
	jobs, err := strconv.Atoi(text)
	require.NoError(t, err)
	return jobs
}

// Bulk jobs behind a scarce limit use it to the brim, ask about twice each, and are never answered 429.
func TestScarcity(t *testing.T) {
	jobs := scarcityJobs(t)
	for _, perMinute := range []int{60, 500} {
		t.Run(fmt.Sprintf("%d a minute", perMinute), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScarcity(t, perMinute, 2, 16)
				var ids []string
				for i := range jobs {
					ids = append(ids, s.enqueue(tasks.PriorityBulk, i))
				}
				started := time.Now()
				s.await(jobs)
				took := time.Since(started)
				used := float64(jobs) / took.Minutes() / float64(perMinute)
				asks := s.asksPerJob(jobs)
				t.Logf("%d jobs took %s: %.1f %% of the limit, %.2f asks a job", jobs, took, 100*used, asks)
				assert.Zero(t, s.sim.Counters().Total.Kinds[simulator.KindRateLimit])
				assert.GreaterOrEqual(t, used, 0.97)
				assert.LessOrEqual(t, asks, 3.0)
				s.waits(ids)
			})
		})
	}
}

// While critical work comes at eight tenths of a limit, it waits two slots at most, and bulk gets all that is left.
func TestScarcityWithCriticalWork(t *testing.T) {
	for _, perMinute := range []int{60, 500} {
		t.Run(fmt.Sprintf("%d a minute", perMinute), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				jobs := scarcityJobs(t)
				if perMinute > 60 {
					jobs *= 5 // for as long a time
				}
				s := newScarcity(t, perMinute, 2, 16)
				slot := time.Minute / time.Duration(perMinute)
				var critical, bulk []string
				for i := range jobs / 2 {
					bulk = append(bulk, s.enqueue(tasks.PriorityBulk, i))
				}
				time.Sleep(10 * time.Second)
				started, before := time.Now(), s.ended()
				for i := range jobs / 2 {
					critical = append(critical, s.enqueue(tasks.PriorityCritical, i))
					time.Sleep(slot * 10 / 8)
				}
				took, done := time.Since(started), s.ended()-before
				s.await(jobs / 2 * 2)
				used := float64(done) / took.Minutes() / float64(perMinute)
				warm := len(critical) / 3 // the places that bulk had taken before are used up
				waits := s.waits(critical[warm:])
				s.waits(bulk)
				t.Logf("%.1f %% of the limit, %.2f asks a job; critical waits %s, p99 %s, at most %s",
					100*used, s.asksPerJob(jobs), waits[len(waits)/2], waits[len(waits)*99/100], waits[len(waits)-1])
				assert.Zero(t, s.sim.Counters().Total.Kinds[simulator.KindRateLimit])
				assert.GreaterOrEqual(t, used, 0.97)
				assert.LessOrEqual(t, s.asksPerJob(jobs), 3.0)
				assert.LessOrEqual(t, waits[len(waits)-1], 2*slot+slot/10, "two slots, and what a call takes to begin")
			})
		})
	}
}

// Where critical work alone is more than a limit allows, bulk still gets a tenth of it.
func TestBulkDoesNotStarve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const perMinute = 60
		s := newScarcity(t, perMinute, 2, 16)
		var bulk []string
		for i := range 20 {
			bulk = append(bulk, s.enqueue(tasks.PriorityBulk, i))
		}
		for i := range 850 { // almost 13 minutes
			s.enqueue(tasks.PriorityCritical, i)
			time.Sleep(time.Minute / perMinute * 9 / 10)
		}
		done := 0
		for _, id := range bulk {
			if s.result(id).Status == tasks.StatusSucceeded {
				done++
			}
		}
		t.Logf("%d of %d bulk jobs done beside 111 %% of critical work", done, len(bulk))
		assert.GreaterOrEqual(t, done, len(bulk)/2, "from the sixth minute on a tenth of the limit is theirs")
	})
}

// A limit that nobody has configured is kept by what the provider says of it: the model rests when nothing remains.
func TestALimitThatIsNotConfiguredIsHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleet(t, 1, 1, []simulator.RegionConfig{{
			Name: "a-1", Answer: simulator.AnswerFixed, Latency: latency(50), Limits: simulator.Limits{RequestsPerMinute: 6},
		}}, func(c *catalog.Catalog) { c.Endpoints = map[string]*catalog.Endpoint{"a-1": c.Endpoints["a-1"]} })
		for i := range 20 {
			s.enqueue(tasks.PriorityDefault, i)
		}
		s.await(20)
		assert.Zero(t, s.sim.Counters().Total.Kinds[simulator.KindRateLimit], "no call is answered 429")
	})
}
