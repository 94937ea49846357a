package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) {
	// go-redis tries a server that is away for up to a second longer than its client lives.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// maxFile is how large a file may be here.
const maxFile = 1 << 20

// bundle is an API, what is behind it, and the test it is for. The header X-Tenant makes a request a tenant's, X-Reads
// one that may only read, and X-Nobody nobody's; without them it is an operator's.
type bundle struct {
	*httpapi.API
	t     testing.TB
	redis *redis.Client
	jobs  *producer.Client
	store *jobstore.Store
}

func newBundle(t testing.TB, client *redis.Client, change ...func(*httpapi.Config)) bundle {
	t.Helper()
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: newCatalog(t)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = jobs.Close() })
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	kept, err := files.New(files.Config{Redis: client, URL: "file://" + filepath.Join(t.TempDir(), "files"), MaxBytes: maxFile})
	require.NoError(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	config := httpapi.Config{
		Files:  kept,
		Client: jobs, Authenticate: byHeader,
		Status: func(context.Context) (any, error) { return map[string]string{"redis": "here"}, nil },
	}
	for _, change := range change {
		change(&config)
	}
	api, err := httpapi.Handler(config)
	require.NoError(t, err)
	return bundle{API: api, t: t, redis: client, jobs: jobs, store: store}
}

func embedded(t testing.TB, change ...func(*httpapi.Config)) bundle {
	t.Helper()
	client, _ := redistest.Embedded(t)
	return newBundle(t, client, change...)
}

func byHeader(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant := r.Header.Get("X-Tenant")
		identity := httpapi.Identity{Tenant: tenant, Operator: tenant == "", Write: r.Header.Get("X-Reads") == ""}
		if r.Header.Get("X-Nobody") == "" {
			r = r.WithContext(httpapi.WithIdentity(r.Context(), identity))
		}
		next.ServeHTTP(w, r)
	})
}

func newCatalog(t testing.TB) *catalog.Catalog {
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
		TaskTypes: map[string]*catalog.TaskType{
			"fast_summary": {Model: "small", Prompt: "{{input}}"},
		},
		Webhooks: catalog.Webhooks{
			PublicURL:     "https://forebay.example.com",
			Secrets:       []catalog.WebhookSecret{{Tenant: "acme", Keys: []catalog.SecretSource{{Env: "HOOKS"}}}},
			Subscriptions: []catalog.Subscription{{Tenant: "acme", URL: "https://example.com/subscribed"}},
		},
		LookupEnv: func(string) (string, bool) { return "whsec_" + strings.Repeat("QUJD", 8), true },
	}
	require.NoError(t, c.Validate())
	return c
}

// ask sends a request; headers are pairs of names and values. A body is JSON unless a header says otherwise.
func (b bundle) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request := httptest.NewRequestWithContext(b.t.Context(), method, path, reader)
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	b.ServeHTTP(recorder, request)
	return recorder
}

// result reads a job by the operator.
func (b bundle) result(id string) tasks.Result {
	b.t.Helper()
	result, err := b.jobs.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	return result
}

// end commits an end of a job, as a worker does.
func (b bundle) end(id string, status tasks.Status) {
	b.t.Helper()
	record, err := b.store.Start(b.t.Context(), id, jobstore.Delivery{ID: "d", Worker: "w"})
	require.NoError(b.t, err)
	result := record.Outcome(status, time.Now())
	result.Text = "<short> & good"
	if status != tasks.StatusSucceeded {
		result.Error = &tasks.Failure{Class: tasks.ClassInvalid, Code: "bad", Message: "no"}
	}
	committed, err := b.store.Commit(b.t.Context(), jobstore.Commit{
		ID: id, Run: record.Run, Delivery: "d", Status: status, Result: result, Response: []byte(`{"choices":[]}`),
		Record: record,
	})
	require.NoError(b.t, err)
	require.True(b.t, committed.Committed)
}

// assertError checks that an error is in OpenAI's form, or with an empty code that there is none.
func assertError(t testing.TB, name string, answer *httptest.ResponseRecorder, code string) {
	t.Helper()
	if code == "" {
		require.Less(t, answer.Code, 400, "%s: %s", name, answer.Body)
		return
	}
	var body struct {
		Error map[string]any `json:"error"`
	}
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &body), "%s: %s", name, answer.Body)
	require.Len(t, body.Error, 4, name)
	require.Contains(t, body.Error, "param", name)
	require.Equal(t, code, body.Error["code"], "%s: %s", name, answer.Body)
	require.NotEmpty(t, body.Error["message"], name)
	want := "invalid_request_error"
	switch {
	case answer.Code >= 500:
		want = "server_error"
	case answer.Code == 403:
		want = "permission_error"
	}
	require.Equal(t, want, body.Error["type"], name)
	require.Equal(t, "application/json; charset=utf-8", answer.Header().Get("Content-Type"), name)
	require.Equal(t, 1, bytes.Count(answer.Body.Bytes(), []byte("\n")), name)
}

func newClient(t testing.TB, options *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}
