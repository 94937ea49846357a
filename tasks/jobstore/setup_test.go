package jobstore

import (
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a store on one server, with jobs of its own, and the test it is for.
type bundle struct {
	*Store
	t      *testing.T
	client redis.UniversalClient
	jobs   *atomic.Int64
}

func newBundle(t *testing.T, client redis.UniversalClient, keys ...string) bundle {
	t.Helper()
	store, err := New(Config{Redis: client, Sealer: testSealer(t, keys...)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return bundle{Store: store, t: t, client: client, jobs: new(atomic.Int64)}
}

// onBoth runs a test on the embedded and on a real Redis, and with sealed records.
func onBoth(t *testing.T, test func(b bundle)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(newBundle(t, client))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Real(t)
		test(newBundle(t, client))
	})
	t.Run("sealed", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(newBundle(t, client, "k2", "k1"))
	})
}

// testSealer has keys of those names; without names it is none.
func testSealer(t testing.TB, names ...string) *seal.Sealer {
	t.Helper()
	if len(names) == 0 {
		return nil
	}
	keys := make([]seal.Key, len(names))
	for i, name := range names {
		secret := sha256.Sum256([]byte(name))
		keys[i] = seal.Key{ID: name, Secret: secret[:]}
	}
	sealer, err := seal.New(keys...)
	require.NoError(t, err)
	return sealer
}

// job is a prepared job under an id of its own.
func (b bundle) job() NewJob {
	now := time.Now()
	deadline, retries := now.Add(time.Hour), 4
	return NewJob{
		Fingerprint: "f1", PromptTokens: 11,
		Job: tasks.Job{
			V: 1, ID: fmt.Sprintf("job-%d", b.jobs.Add(1)), TaskType: "fast_summary", Tenant: "default",
			Request: []byte(`{"messages":[{"role":"user","content":"<p>"}]}`), Kind: tasks.KindChat,
			Priority: tasks.PriorityDefault, Deadline: &deadline, CreatedAt: &now, MaxRetries: &retries,
			Retention: tasks.Duration(time.Hour), Metadata: map[string]string{"document": "7"},
		},
	}
}

// created is the id of a job that waits.
func (b bundle) created(t testing.TB) string {
	t.Helper()
	job := b.job()
	_, err := b.Create(t.Context(), job)
	require.NoError(t, err)
	return job.Job.ID
}

// running is a job that the delivery d1 of the worker w1 holds.
func (b bundle) running(t testing.TB) (string, *Record) {
	t.Helper()
	id := b.created(t)
	record, err := b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
	require.NoError(t, err)
	return id, record
}

// calling is a running job with an open attempt.
func (b bundle) calling(t testing.TB) (string, tasks.Attempt) {
	t.Helper()
	id, _ := b.running(t)
	attempt := attemptOf("d1", "w1")
	seq, err := b.Begin(t.Context(), id, 1, attempt)
	require.NoError(t, err)
	attempt.Seq, attempt.Run = seq, 1
	return id, attempt
}

func (b bundle) get(t testing.TB, id string) *Record {
	t.Helper()
	record, err := b.Get(t.Context(), id)
	require.NoError(t, err)
	return record
}

// inIndex names the sets of the index that the job stands in.
func (b bundle) inIndex(t testing.TB, id string) []string {
	t.Helper()
	names, _ := b.placed(t, id)
	return names
}

// placed is inIndex, with how long the record is kept.
func (b bundle) placed(t testing.TB, id string) ([]string, time.Duration) {
	t.Helper()
	all := []string{indexOpen, indexEnded, indexDead}
	pipe := b.client.Pipeline()
	for _, name := range all {
		pipe.ZScore(t.Context(), b.Keys().Index(keyspace.IndexShard(id), name), id)
	}
	ttl := pipe.PTTL(t.Context(), b.Keys().Job(id))
	commands, _ := pipe.Exec(t.Context())
	var names []string
	for i, name := range all {
		if commands[i].Err() == nil {
			names = append(names, name)
		}
	}
	return names, ttl.Val()
}

func attemptOf(delivery, worker string) tasks.Attempt {
	now := time.Now()
	return tasks.Attempt{
		Delivery: delivery, Worker: worker, Model: "gemini-2.5-flash", Endpoint: "apac", Account: "relay",
		Region: "ap-northeast-1", StartedAt: now, CallDeadline: now.Add(30 * time.Second),
	}
}

// answered is the attempt's end, well and for two cents.
func answered(attempt tasks.Attempt) tasks.Attempt {
	attempt.Ended, attempt.LatencyMS, attempt.HTTPStatus, attempt.CostUSD = true, 120, 200, 0.02
	attempt.Usage = &tasks.Usage{PromptTokens: 10, CompletionTokens: 5, TotalTokens: 15}
	return attempt
}

func failed(attempt tasks.Attempt) tasks.Attempt {
	attempt.Ended, attempt.LatencyMS, attempt.HTTPStatus = true, 80, 503
	attempt.Class, attempt.MaybeBilled = tasks.ClassUnavailable, true
	return attempt
}

// success commits a job's answer for the delivery d1.
func success(id string, run int, attempt *tasks.Attempt) Commit {
	return Commit{
		ID: id, Run: run, Delivery: "d1", Status: tasks.StatusSucceeded, Attempt: attempt,
		Result:   tasks.Result{Model: "gemini-2.5-flash", Endpoint: "apac", Text: "short"},
		Response: []byte("{ \"choices\": [1],\n \"x\": \"\\u2028 <&>\" }"), Retention: time.Hour,
	}
}
