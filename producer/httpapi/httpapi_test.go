package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newHandler(t *testing.T, client *redis.Client, ready func(context.Context) error) http.Handler {
	t.Helper()
	jobs, err := producer.New(producer.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = jobs.Close() })
	handler, err := httpapi.Handler(httpapi.Config{Client: jobs, Ready: ready})
	require.NoError(t, err)
	return handler
}

func ask(handler http.Handler, method, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
	return recorder
}

// withJobs is a server with a job that waits and one that has succeeded.
func withJobs(t *testing.T) *redis.Client {
	t.Helper()
	client, _ := redistest.Embedded(t)
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	for _, id := range []string{"waits", "done"} {
		_, err = store.Create(t.Context(), jobstore.NewJob{Fingerprint: "f", Job: tasks.Job{
			ID: id, TaskType: "fast_summary", Tenant: "default", Priority: tasks.PriorityDefault, Request: []byte(`{}`),
		}})
		require.NoError(t, err)
	}
	_, err = store.Commit(t.Context(), jobstore.Commit{
		ID: "done", Run: 1, Status: tasks.StatusSucceeded, Result: tasks.Result{Text: "<short> & good"},
		Response: []byte(`{"choices":[]}`),
	})
	require.NoError(t, err)
	return client
}

func TestEveryAddress(t *testing.T) {
	t.Parallel()
	handler := newHandler(t, withJobs(t), nil)
	for _, row := range []struct {
		method, path string
		status       int
		code         string
		body         string
	}{
		{"GET", "/healthz", 200, "", `"ok"`},
		{"HEAD", "/healthz", 200, "", ""},
		{"GET", "/readyz", 200, "", `"ready"`},
		{"GET", "/v1/jobs/done", 200, "", `"text":"<short> & good","response":{"choices":[]}`},
		{"GET", "/v1/jobs/waits", 200, "", `"status":"queued"`},
		{"GET", "/v1/jobs/absent", 404, "job_not_found", "absent"},
		{"GET", "/v1/jobs/no%20id", 400, "invalid_job_id", ""},
		{"GET", "/v1/jobs/" + strings.Repeat("x", 129), 400, "invalid_job_id", ""},
		{"GET", "/v1/jobs/%3Cscript%3E", 400, "invalid_job_id", ""},
		{"GET", "/v1/jobs/", 404, "not_found", ""},
		{"GET", "/v1/jobs/a/b", 404, "not_found", ""},
		{"GET", "/v1/jobs/a%2Fb", 400, "invalid_job_id", ""},
		{"GET", "//v1//jobs/done", 404, "not_found", ""},
		{"GET", "/v1/../v1/jobs/done", 404, "not_found", ""},
		{"GET", "/", 404, "not_found", ""},
		{"OPTIONS", "*", 404, "not_found", ""},
		{"POST", "/v1/chat/completions", 404, "not_found", ""},
		{"POST", "/healthz", 405, "method_not_allowed", ""},
		{"POST", "/v1/jobs/done", 405, "method_not_allowed", ""},
	} {
		name := row.method + " " + row.path
		answer := ask(handler, row.method, row.path)
		assert.Equal(t, row.status, answer.Code, name)
		assert.Contains(t, answer.Body.String(), row.body, name)
		assert.Equal(t, "application/json; charset=utf-8", answer.Header().Get("Content-Type"), name)
		assert.Equal(t, row.status == 405, answer.Header().Get("Allow") != "", name)
		assertError(t, name, answer, row.code)
	}
}

// assertError checks that an error is in OpenAI's form, or that there is none.
func assertError(t *testing.T, name string, answer *httptest.ResponseRecorder, code string) {
	t.Helper()
	var body struct {
		Error map[string]any `json:"error"`
	}
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &body), name)
	if code == "" {
		require.Nil(t, body.Error, name)
		return
	}
	require.Len(t, body.Error, 4, name)
	require.Contains(t, body.Error, "param", name)
	require.Equal(t, code, body.Error["code"], name)
	require.NotEmpty(t, body.Error["message"], name)
	want := "invalid_request_error"
	if answer.Code >= 500 {
		want = "server_error"
	}
	require.Equal(t, want, body.Error["type"], name)
}

func TestRedisIsAway(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	handler := newHandler(t, client, nil)
	server.Close()

	require.Equal(t, 200, ask(handler, "GET", "/healthz").Code, "the process lives")
	answer := ask(handler, "GET", "/readyz")
	require.Equal(t, 503, answer.Code)
	assertError(t, "readyz", answer, "not_ready")
	require.Contains(t, answer.Body.String(), "reach Redis", "the reason")
	answer = ask(handler, "GET", "/v1/jobs/a")
	require.Equal(t, 503, answer.Code)
	assertError(t, "job", answer, "store_unavailable")
	require.NotContains(t, answer.Body.String(), "127.0.0.1")
}

func TestReadyIsAnsweredWithinASecond(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	hangs := make(chan struct{})
	defer close(hangs)
	handler := newHandler(t, client, func(context.Context) error { <-hangs; return nil })
	begun := time.Now()
	answer := ask(handler, "GET", "/readyz")
	require.Equal(t, 503, answer.Code)
	require.Less(t, time.Since(begun), 3*time.Second)
	require.Contains(t, answer.Body.String(), "within 1s")
}

func TestReadyIsTheOwnersToSay(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	handler := newHandler(t, client, func(context.Context) error { return errors.New("draining") })
	require.Contains(t, ask(handler, "GET", "/readyz").Body.String(), "draining")
}

func TestHandlerAsksForAClient(t *testing.T) {
	t.Parallel()
	_, err := httpapi.Handler(httpapi.Config{})
	require.ErrorContains(t, err, "Config.Client")
}
