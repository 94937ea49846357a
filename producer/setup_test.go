package producer_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a client on one server, with what a worker would use beside it, and the test it is for.
type bundle struct {
	*producer.Client
	t         *testing.T
	client    *redis.Client
	store     *jobstore.Store
	inspector *asynq.Inspector
}

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
}

func newBundle(t *testing.T, client *redis.Client) bundle {
	t.Helper()
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: newCatalog(t)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = jobs.Close() })
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return bundle{Client: jobs, t: t, client: client, store: store, inspector: asynq.NewInspectorFromRedisClient(client)}
}

func newCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	c := exampleCatalog()
	require.NoError(t, c.Validate())
	return c
}

// exampleCatalog has one endpoint, one model and the task type fast_summary.
func exampleCatalog() *catalog.Catalog {
	price := 2.5
	return &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"local": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"here": {Account: "local", Priority: 1, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone},
		},
		Models:       map[string]*catalog.Model{"small": {Output: &price}},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"small"}}},
		FallbackTier: "low",
		TaskTypes: map[string]*catalog.TaskType{
			"fast_summary": {Model: "small", Prompt: "Summarise: {{input}}"},
		},
	}
}

func summary(id string) tasks.Job {
	return tasks.Job{ID: id, TaskType: "fast_summary", Input: "A long text about " + id + "."}
}

// taskIDs are the tasks that wait in a queue.
func (b bundle) taskIDs(t testing.TB, queue string) []string {
	t.Helper()
	if queues, err := b.inspector.Queues(); err != nil || len(queues) == 0 {
		return nil
	}
	waiting, err := b.inspector.ListPendingTasks(queue, asynq.PageSize(10_000))
	require.NoError(t, err)
	var ids []string
	for _, task := range waiting {
		ids = append(ids, task.ID)
	}
	return ids
}

// work does what a worker does with a job, without a provider.
func (b bundle) work(t testing.TB, id string, status tasks.Status) {
	t.Helper()
	record, err := b.store.Start(t.Context(), id, jobstore.Delivery{ID: "d1", Worker: "w1"})
	require.NoError(t, err)
	result := record.Outcome(status, time.Now())
	result.Text = "short"
	committed, err := b.store.Commit(t.Context(), jobstore.Commit{
		ID: id, Run: record.Run, Delivery: "d1", Status: status, Result: result, Response: []byte(`{"choices":[]}`),
	})
	require.NoError(t, err)
	require.True(t, committed.Committed)
}

func (b bundle) start(t testing.TB, id string) {
	t.Helper()
	_, err := b.store.Start(t.Context(), id, jobstore.Delivery{ID: "d1", Worker: "w1"})
	require.NoError(t, err)
}
