package inbox

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a server with an inbox in it, and the test it is for.
type bundle struct {
	t      *testing.T
	redis  redis.UniversalClient
	client *producer.Client
	store  *jobstore.Store
	keys   keyspace.Keyspace
}

func newBundle(t *testing.T, client redis.UniversalClient) bundle {
	t.Helper()
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: testCatalog(t)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = jobs.Close() })
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return bundle{t: t, redis: client, client: jobs, store: store, keys: store.Keys()}
}

// onAll runs a test on the embedded Redis, on a real one, and on a cluster.
func onAll(t *testing.T, test func(b bundle)) {
	t.Helper()
	t.Parallel()
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
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Cluster(t)
		test(newBundle(t, client))
	})
}

func testCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	price := 2.5
	c := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"local": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"here": {Account: "local", Priority: 1, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone},
		},
		Models:       map[string]*catalog.Model{"small": {Output: &price}},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"small"}}},
		FallbackTier: "low",
		TaskTypes:    map[string]*catalog.TaskType{"fast_summary": {Model: "small", Prompt: "Summarise: {{input}}"}},
	}
	require.NoError(t, c.Validate())
	return c
}

// config is a consumer's.
func (b bundle) config(change ...func(*Config)) Config {
	config := Config{Redis: b.redis, Client: b.client}
	for _, apply := range change {
		apply(&config)
	}
	return config
}

// start runs a consumer until the test ends, or until stop.
func (b bundle) start(change ...func(*Config)) (n *Inbox, stop func()) {
	b.t.Helper()
	n, err := New(b.config(change...))
	require.NoError(b.t, err)
	require.NoError(b.t, n.Start(b.t.Context()))
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			require.NoError(b.t, n.Shutdown(ctx))
		}
	}
	b.t.Cleanup(stop)
	return n, stop
}

// add puts an entry with these fields into the inbox, as any language does.
func (b bundle) add(fields ...string) string {
	b.t.Helper()
	id, err := b.redis.XAdd(b.t.Context(), &redis.XAddArgs{Stream: b.keys.Inbox(), Values: fields}).Result()
	require.NoError(b.t, err)
	return id
}

// drained waits until nothing is left in the inbox, read or not.
func (b bundle) drained() {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.redis.XLen(context.Background(), b.keys.Inbox()).Val() == 0 },
		20*time.Second, 5*time.Millisecond, "the inbox is not drained")
	pending, err := b.redis.XPending(b.t.Context(), b.keys.Inbox(), Group).Result()
	require.NoError(b.t, err)
	require.Zero(b.t, pending.Count)
}

// rejected are the refusals by their entries' ids; none is told twice.
func (b bundle) rejected() map[string]map[string]any {
	b.t.Helper()
	list, err := b.redis.XRange(b.t.Context(), b.keys.InboxRejected(), "-", "+").Result()
	require.NoError(b.t, err)
	found := map[string]map[string]any{}
	for _, message := range list {
		id, _ := message.Values["entry"].(string)
		require.NotContains(b.t, found, id, "told twice")
		found[id] = message.Values
	}
	return found
}

func (b bundle) record(id string) *jobstore.Record {
	b.t.Helper()
	record, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err, id)
	return record
}

// queued counts the tasks that wait in the queues.
func (b bundle) queued() int64 {
	b.t.Helper()
	var sum int64
	for _, priority := range tasks.Priorities() {
		sum += b.redis.LLen(b.t.Context(), b.keys.QueuePending(string(priority), "")).Val()
	}
	return sum
}

func logTo(log *zerolog.Logger) func(*Config) { return func(c *Config) { c.Log = *log } }
