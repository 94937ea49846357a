package sandbox_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/scheduler"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// sharded is a deployment that is ended and started anew with another number of shards, on the same Redis.
type sharded struct {
	t      *testing.T
	client redis.UniversalClient
	*sandbox.Sandbox
	ids, batches []string

	hook   *httptest.Server
	mu     sync.Mutex
	hooked map[string]bool // ids of jobs whose webhooks arrived
}

func newSharded(t *testing.T, client redis.UniversalClient) *sharded {
	t.Helper()
	d := &sharded{t: t, client: client, hooked: map[string]bool{}}
	d.hook = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hooked[strings.TrimPrefix(r.URL.Path, "/")] = true
	}))
	t.Cleanup(d.hook.Close)
	return d
}

// start starts the deployment anew. Its calls take long enough that some are out when it ends, and fail often enough that
// some jobs wait for their next delivery.
func (d *sharded) start(shards keyspace.Shards) {
	d.t.Helper()
	running, err := sandbox.Start(d.t.Context(), sandbox.Config{
		Redis: d.client, Shards: shards, Slots: 8, HealthInterval: scheduler.NoHealthProbes, Recovery: time.Second, BatchesOff: true,
		Regions: []sandbox.Region{{
			Name: "only", Region: "here", Tries: 1, FailureRate: 0.2,
			Latency: simulator.Distribution{Min: 200 * time.Millisecond, Max: 600 * time.Millisecond},
		}},
	})
	require.NoError(d.t, err)
	d.Sandbox = running
	d.t.Cleanup(d.stop)
}

// stop ends the deployment at once: calls that are out are given up, and their jobs given back.
func (d *sharded) stop() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	assert.NoError(d.t, d.Close(ended))
}

func (d *sharded) enqueue(client *producer.Client, name string, count int, change ...func(*tasks.Job)) {
	d.t.Helper()
	retries := 50
	for i := range count {
		job := tasks.Job{
			ID: fmt.Sprintf("%s-%d", name, i), TaskType: "fast_summary", Input: "Nothing is lost while it waits.",
			Priority: tasks.Priorities()[i%len(tasks.Priorities())], MaxRetries: &retries,
		}
		for _, apply := range change {
			apply(&job)
		}
		_, err := client.Enqueue(d.t.Context(), job)
		require.NoError(d.t, err)
		d.ids = append(d.ids, job.ID)
	}
}

func (d *sharded) webhook(job *tasks.Job) {
	job.Webhook = &tasks.Webhook{URL: d.hook.URL + "/" + job.ID}
}

func in(wait time.Duration) func(*tasks.Job) {
	at := time.Now().Add(wait)
	return func(job *tasks.Job) { job.RunAt = &at }
}

// counts adds up all queues.
func (d *sharded) counts() (all producer.QueueShard) {
	d.t.Helper()
	found, err := d.Client.Queues(d.t.Context())
	require.NoError(d.t, err)
	for _, queue := range found.Queues {
		all.Pending += queue.Pending
		all.Active += queue.Active
		all.Scheduled += queue.Scheduled
		all.Retry += queue.Retry
		all.Archived += queue.Archived
	}
	return all
}

// enqueueBatch enqueues members of a batch, which wait in lanes.
func (d *sharded) enqueueBatch(id string, size int) {
	d.t.Helper()
	_, err := d.Client.Batches().Create(d.t.Context(), batches.Batch{ID: id, Tenant: "default", Kind: batches.KindRun, Retention: time.Hour})
	require.NoError(d.t, err)
	require.NoError(d.t, d.Client.Batches().Begin(d.t.Context(), id, size))
	retries := 50
	members := make([]tasks.Job, size)
	for i := range members {
		members[i] = tasks.Job{
			ID: batches.MemberID(id, i), TaskType: "fast_summary", Input: "Nothing is lost.", Priority: tasks.PriorityBulk,
			MaxRetries: &retries, Member: &tasks.Member{Batch: id, Number: i},
		}
		d.ids = append(d.ids, members[i].ID)
	}
	for _, err := range d.Client.EnqueueMany(d.t.Context(), slices.Values(members)) {
		require.NoError(d.t, err)
	}
	d.batches = append(d.batches, id)
}

// enqueueForeign enqueues a whole job as any user of asynq does.
func (d *sharded) enqueueForeign(queue, id string) {
	d.t.Helper()
	_, err := asynq.NewClientFromRedisClient(d.client).EnqueueContext(d.t.Context(),
		asynq.NewTask("completion:fast_summary", fmt.Appendf(nil, `{"id":%q,"input":"Nothing is lost.","max_retries":50}`, id)), asynq.Queue(queue))
	require.NoError(d.t, err)
	d.ids = append(d.ids, id)
}

// The number of shards may change while jobs are pending, scheduled, retrying and in the hands of workers, and producers
// may have another one than workers: every job is done, and told of.
func TestChangeShards(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) redis.UniversalClient{
		"real":    func(t *testing.T) redis.UniversalClient { t.Helper(); client, _ := redistest.Real(t); return client },
		"cluster": func(t *testing.T) redis.UniversalClient { t.Helper(); client, _ := redistest.Cluster(t); return client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSharded(t, open(t))
			for phase, shards := range []keyspace.Shards{1, 4, 2, 1} {
				d.start(shards)
				d.enqueue(d.Client, fmt.Sprintf("plain-%d", phase), 30)
				d.enqueue(d.Client, fmt.Sprintf("hooked-%d", phase), 4, d.webhook)
				d.enqueue(d.Client, fmt.Sprintf("later-%d", phase), 4, in(20*time.Second))
				d.enqueueForeign("default", fmt.Sprintf("foreign-%d", phase))
				d.enqueueForeign("bulk:2", fmt.Sprintf("foreign-shard-%d", phase))
				other, err := producer.New(producer.Config{Redis: d.client, Catalog: d.Catalog, Shards: 7})
				require.NoError(t, err)
				d.enqueue(other, fmt.Sprintf("other-%d", phase), 7)
				require.NoError(t, other.Close())
				d.enqueueBatch(fmt.Sprintf("batch_%032d", phase), 12)
				require.Eventually(t, func() bool {
					all := d.counts()
					return all.Pending > 0 && all.Active > 0 && all.Scheduled > 0 && all.Retry > 0
				}, 30*time.Second, 20*time.Millisecond)
				t.Logf("%d shards: %+v", shards, d.counts())
				if phase < 3 {
					d.stop()
				}
			}
			d.checkAllDone()
		})
	}
}

// checkAllDone waits until every job has succeeded, every webhook has arrived and the queues are empty.
func (d *sharded) checkAllDone() {
	t := d.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, id := range d.ids {
		var result tasks.Result
		require.Eventually(t, func() (found bool) { // a foreign task's job is not known before a worker has adopted it
			var err error
			result, err = d.Client.Wait(ctx, id)
			return err == nil
		}, 2*time.Minute, 50*time.Millisecond, id)
		assert.Equal(t, tasks.StatusSucceeded, result.Status, "%s: %+v", id, result.Error)
		succeeded := slices.DeleteFunc(slices.Clone(result.Attempts), func(a tasks.Attempt) bool { return a.Class != "" })
		assert.Len(t, succeeded, 1, "%s: one answer was paid for", id)
	}
	require.Eventually(t, func() bool { return d.counts() == producer.QueueShard{} }, time.Minute, 50*time.Millisecond)
	for _, id := range d.batches {
		require.Eventually(t, func() bool {
			batch, err := d.Client.Batches().Get(t.Context(), id, "default")
			return err == nil && batch.Counts.Succeeded == batch.Total
		}, time.Minute, 50*time.Millisecond, id)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range d.ids {
		if strings.HasPrefix(id, "hooked-") {
			assert.True(t, d.hooked[id], "the webhook of %s", id)
		}
	}
	found, err := envelope.FindShards(t.Context(), d.client, keyspace.New(""), 1)
	require.NoError(t, err)
	assert.Greater(t, len(found), 12, "shards beyond the number stay on the list until they have been empty for a while")
}
