package reconciler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixedTerm is a term that does not end by itself.
type fixedTerm struct {
	number int64
	over   bool
}

func (t *fixedTerm) Number() int64 { return t.number }

func (t *fixedTerm) Err() error {
	if t.over {
		return errors.New("the term is over")
	}
	return nil
}

func (t *fixedTerm) Above(_ context.Context, seen int64) error {
	if t.over {
		return t.Err()
	}
	t.number = max(t.number, seen+1)
	return nil
}

// bench is a Reconciler that mends when the test says so, and asynq as the others use it.
type bench struct {
	*Reconciler
	t         *testing.T
	redis     redis.UniversalClient
	store     *jobstore.Store
	client    *asynq.Client
	inspector *asynq.Inspector
	term      *fixedTerm
	logs      *bytes.Buffer
	bulk      *queue
	jobs      int
}

func newBench(t *testing.T, client redis.UniversalClient) *bench {
	t.Helper()
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	b := &bench{
		t: t, redis: client, store: store, client: asynq.NewClientFromRedisClient(client),
		inspector: asynq.NewInspectorFromRedisClient(client), term: &fixedTerm{number: 1}, logs: new(bytes.Buffer),
	}
	b.lead()
	return b
}

// lead begins a term: a Reconciler that has seen nothing.
func (b *bench) lead() {
	b.t.Helper()
	var err error
	b.Reconciler, err = New(Config{Redis: b.redis, Store: b.store, Term: b.term, Log: zerolog.New(b.logs)})
	require.NoError(b.t, err)
	for _, q := range b.queues {
		if q.name == "bulk" {
			b.bulk = q
		}
	}
}

// onReal and onBoth run a test on a real Redis, or also on the embedded one.
func onReal(t *testing.T, test func(b *bench)) {
	t.Helper()
	client, _ := redistest.Real(t)
	test(newBench(t, client))
}

func onBoth(t *testing.T, test func(b *bench)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(newBench(t, client))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		onReal(t, test)
	})
}

// record makes a job's record, without a task.
func (b *bench) record(change ...func(*tasks.Job)) string {
	b.t.Helper()
	b.jobs++
	now := time.Now()
	deadline, retries := now.Add(time.Hour), 4
	job := tasks.Job{
		V: 1, ID: fmt.Sprintf("job-%d", b.jobs), TaskType: "fast_summary", Tenant: "default",
		Request: []byte(`{"messages":[]}`), Kind: tasks.KindChat, Priority: tasks.PriorityBulk, Deadline: &deadline,
		CreatedAt: &now, MaxRetries: &retries, Retention: tasks.Duration(time.Hour),
	}
	for _, apply := range change {
		apply(&job)
	}
	_, err := b.store.Create(b.t.Context(), jobstore.NewJob{Job: job, Fingerprint: "f"})
	require.NoError(b.t, err)
	return job.ID
}

// queued makes a job with its task, as a way in does.
func (b *bench) queued(change ...func(*tasks.Job)) string {
	b.t.Helper()
	id := b.record(change...)
	b.enqueue(id)
	return id
}

func (b *bench) enqueue(id string) {
	b.t.Helper()
	record := b.get(id)
	made, options, err := envelope.New(keyspace.New(""), record.Job, record.Shard, record.Run)
	require.NoError(b.t, err)
	_, err = b.client.EnqueueContext(b.t.Context(), made, options...)
	require.NoError(b.t, err)
}

// taken makes a job whose task is active and whose record is held by a worker.
func (b *bench) taken(worker string, change ...func(*tasks.Job)) string {
	b.t.Helper()
	id := b.queued(change...)
	b.claim(id)
	b.start(id, worker)
	return id
}

// claim makes the task of a job active, as asynq's dequeue does, with a lease of 30 s.
func (b *bench) claim(id string) {
	b.t.Helper()
	k := b.bulk.keys
	_, err := b.redis.TxPipelined(b.t.Context(), func(pipe redis.Pipeliner) error {
		pipe.LRem(b.t.Context(), k.pending, 0, id)
		pipe.LPush(b.t.Context(), k.active, id)
		pipe.HSet(b.t.Context(), k.tasks+id, "state", "active")
		pipe.HDel(b.t.Context(), k.tasks+id, "pending_since")
		pipe.ZAdd(b.t.Context(), k.lease, redis.Z{Score: float64(time.Now().Add(30 * time.Second).Unix()), Member: id})
		return nil
	})
	require.NoError(b.t, err)
}

func (b *bench) start(id, worker string) {
	b.t.Helper()
	_, err := b.store.Start(b.t.Context(), id, jobstore.Delivery{ID: "d-" + strconv.Itoa(b.jobs), Worker: worker})
	require.NoError(b.t, err)
}

func (b *bench) alive(worker string) {
	b.t.Helper()
	require.NoError(b.t, b.redis.Set(b.t.Context(), b.store.Keys().Worker(worker), "", time.Minute).Err())
}

func (b *bench) get(id string) *jobstore.Record {
	b.t.Helper()
	record, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	return record
}

// full mends everything that is to be mended now.
func (b *bench) full() {
	b.t.Helper()
	require.NoError(b.t, b.round(b.t.Context(), true))
}

// later lets a time pass for what has been watched: leases, and jobs whose task is missing. Nothing really passes.
func (b *bench) later(span time.Duration) {
	for _, q := range b.queues {
		for id, lease := range q.leases.byID {
			lease.since = lease.since.Add(-span)
			q.leases.byID[id] = lease
		}
	}
	for _, suspects := range []map[string]suspect{b.records.suspects, b.webhooks.suspects} {
		for id, known := range suspects {
			known.since, known.atSince = known.since.Add(-span), known.atSince.Add(-span)
			suspects[id] = known
		}
	}
}

// places names every place of asynq's bulk queue where a task stands, and its state and message: "pending(pending)".
func (b *bench) places(id string) string {
	b.t.Helper()
	ctx, k := b.t.Context(), b.bulk.keys
	var places []string
	for _, list := range []struct{ name, key string }{{"pending", k.pending}, {"active", k.active}} {
		ids, err := b.redis.LRange(ctx, list.key, 0, -1).Result()
		require.NoError(b.t, err)
		for _, there := range ids {
			if there == id {
				places = append(places, list.name)
			}
		}
	}
	for _, set := range []struct{ name, key string }{
		{"leased", k.lease}, {"scheduled", k.scheduled}, {"retry", k.retry}, {"archived", k.archived}, {"completed", k.completed},
	} {
		if b.redis.ZScore(ctx, set.key, id).Err() == nil {
			places = append(places, set.name)
		}
	}
	for _, lane := range b.redis.SMembers(ctx, k.lanes.Groups).Val() {
		if b.redis.ZScore(ctx, k.lanes.Prefix+lane, id).Err() == nil {
			places = append(places, "lane "+lane)
		}
	}
	hash, err := b.redis.HGetAll(ctx, k.tasks+id).Result()
	require.NoError(b.t, err)
	state := hash["state"]
	if len(hash) > 0 && hash["msg"] == "" {
		state += ", no message"
	}
	return fmt.Sprintf("%s(%s)", strings.Join(places, "+"), state)
}

// said counts the lines of the log about a task.
func (b *bench) said(what, id string) int {
	count := 0
	for line := range strings.Lines(b.logs.String()) {
		if strings.Contains(line, `"what":"`+what+`"`) && strings.Contains(line, `"task":"`+id+`"`) {
			count++
		}
	}
	return count
}
