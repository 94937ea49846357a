package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

const summary = `{"task_type":"fast_summary","input":"a text"}`

func withID(id string) string {
	return strings.Replace(summary, "{", `{"id":"`+id+`",`, 1)
}

// Every address, method and status. The rows are asked in their order.
func TestEveryAddress(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	for _, id := range []string{"waits", "done", "failed"} {
		assertError(t, id, b.ask("POST", "/v1/jobs", withID(id)), "")
	}
	b.end("done", tasks.StatusSucceeded)
	b.end("failed", tasks.StatusFailed)
	long := strings.Repeat("x", 129)
	for _, row := range []struct {
		method, path, body string
		headers            []string
		status             int
		code               string
		want               string
	}{
		{"GET", "/healthz", "", nil, 200, "", `"ok"`},
		{"HEAD", "/healthz", "", nil, 200, "", ""},
		{"GET", "/healthz", "", []string{"X-Nobody", "1"}, 200, "", `"ok"`},
		{"GET", "/readyz", "", []string{"X-Nobody", "1"}, 200, "", `"ready"`},
		{"POST", "/healthz", "", nil, 405, "method_not_allowed", ""},

		{"POST", "/v1/jobs", withID("new"), nil, 201, "", `{"id":"new","created":true,"status":"queued"}`},
		{"POST", "/v1/jobs", withID("new"), nil, 200, "", `{"id":"new","created":false,"status":"queued"}`},
		{"POST", "/v1/jobs", withID("done"), nil, 200, "", `"status":"succeeded"`},
		{"POST", "/v1/jobs", strings.Replace(withID("new"), "a text", "b", 1), nil, 409, "id_conflict", ""},
		{"POST", "/v1/jobs", summary, []string{"Idempotency-Key", "key"}, 201, "", `"id":"key"`},
		{"POST", "/v1/jobs", summary, []string{"Idempotency-Key", `"key"`}, 200, "", `"created":false`},
		{"POST", "/v1/jobs", strings.Replace(summary, "a text", "b", 1), []string{"Idempotency-Key", "key"}, 409, "id_conflict", ""},
		{"POST", "/v1/jobs", withID("own"), []string{"Idempotency-Key", "key"}, 201, "", `"id":"own"`},
		{"POST", "/v1/jobs", summary, []string{"Idempotency-Key", "no key"}, 400, "invalid_request", "Idempotency-Key"},
		{"POST", "/v1/jobs", summary, []string{"Idempotency-Key", long}, 400, "invalid_request", ""},
		{"POST", "/v1/jobs", "[" + summary + "," + withID("new") + ",7]", []string{"Idempotency-Key", "many"}, 200, "", `[{"index":0,"id":"many-0","created":true,"status":"queued"},{"index":1,"id":"new","created":false,"status":"queued"},{"index":2,"error":{`},
		{"POST", "/v1/jobs", "[]", nil, 200, "", "[]"},
		{"POST", "/v1/jobs", "", nil, 400, "invalid_request", "body"},
		{"POST", "/v1/jobs", summary, []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type", ""},
		{"POST", "/v1/jobs", summary, []string{"Content-Type", ""}, 415, "unsupported_media_type", ""},
		{"POST", "/v1/jobs", summary, []string{"Content-Type", "application/json; charset=latin1"}, 415, "unsupported_media_type", ""},
		{"POST", "/v1/jobs", summary, []string{"Content-Type", "application/json; charset=UTF-8"}, 201, "", ""},
		{"POST", "/v1/jobs", summary, []string{"Content-Encoding", "gzip"}, 415, "unsupported_encoding", ""},
		{"POST", "/v1/jobs", strings.Repeat("[", 32<<20+1), nil, 413, "body_too_large", "33554432"},
		{"POST", "/v1/jobs", `{"input":"` + strings.Repeat("x", 8<<20) + `"}`, nil, 413, "body_too_large", ""},
		{"POST", "/v1/jobs", "[" + strings.Repeat("1,", 10_000) + "1]", nil, 413, "too_many_jobs", "10001"},
		{"PUT", "/v1/jobs", summary, nil, 405, "method_not_allowed", ""},

		{"GET", "/v1/jobs/done", "", nil, 200, "", `"text":"<short> & good","response":{"choices":[]}`},
		{"HEAD", "/v1/jobs/done", "", nil, 200, "", ""},
		{"GET", "/v1/jobs/done?wait=60s", "", nil, 200, "", `"succeeded"`},
		{"GET", "/v1/jobs/waits", "", nil, 200, "", `"status":"queued"`},
		{"GET", "/v1/jobs/waits?wait=10ms", "", nil, 200, "", `"status":"queued"`},
		{"GET", "/v1/jobs/waits?wait=0", "", nil, 200, "", `"status":"queued"`},
		{"GET", "/v1/jobs/waits?wait=soon", "", nil, 400, "invalid_request", "wait"},
		{"GET", "/v1/jobs/waits?wait=-1s", "", nil, 400, "invalid_request", "wait"},
		{"GET", "/v1/jobs/waits?wiat=1s", "", nil, 400, "invalid_request", "wiat"},
		{"GET", "/v1/jobs/absent?wait=60s", "", nil, 404, "job_not_found", "absent"},
		{"GET", "/v1/jobs/absent", "", nil, 404, "job_not_found", "absent"},
		{"GET", "/v1/jobs/no%20id", "", nil, 400, "invalid_job_id", ""},
		{"GET", "/v1/jobs/" + long, "", nil, 400, "invalid_job_id", ""},
		{"GET", "/v1/jobs/%3Cscript%3E", "", nil, 400, "invalid_job_id", ""},
		{"GET", "/v1/jobs/a%2Fb", "", nil, 400, "invalid_job_id", ""},
		{"PATCH", "/v1/jobs/done", "", nil, 405, "method_not_allowed", ""},

		{"GET", "/v1/jobs", "", nil, 200, "", `"id":"waits"`},
		{"GET", "/v1/jobs?status=succeeded,failed&limit=1", "", nil, 200, "", `"next":"`},
		{"GET", "/v1/jobs?group_by=status", "", nil, 200, "", `{"key":"succeeded","jobs":1,"example":"done"`},
		{"GET", "/v1/jobs?group_by=color", "", nil, 400, "invalid_request", "group_by"},
		{"GET", "/v1/jobs?status=lost", "", nil, 400, "invalid_request", "status"},
		{"GET", "/v1/jobs?batch=a+b", "", nil, 400, "invalid_request", "batch"},
		{"GET", "/v1/jobs?batch=batch_none", "", nil, 200, "", `"jobs":[]`},
		{"GET", "/v1/jobs?cursor=b", "", nil, 400, "invalid_request", "cursor"},
		{"GET", "/v1/jobs?limit=1001", "", nil, 400, "invalid_request", "limit"},
		{"GET", "/v1/jobs?since=yesterday", "", nil, 400, "invalid_request", "since"},

		{"POST", "/v1/jobs/waits/retry", "", nil, 409, "not_ended", ""},
		{"POST", "/v1/jobs/done/retry", "", nil, 409, "succeeded", ""},
		{"POST", "/v1/jobs/failed/retry", "", nil, 200, "", `"run":2`},
		{"POST", "/v1/jobs/absent/retry", "", nil, 404, "job_not_found", ""},
		{"POST", "/v1/jobs/failed/retry?run=1", "", nil, 409, "stale_run", "run again"},
		{"POST", "/v1/jobs/failed/retry?run=0", "", nil, 400, "invalid_request", "run"},
		{"POST", "/v1/jobs/failed/discard", "", nil, 409, "not_ended", ""},
		{"DELETE", "/v1/jobs/failed", "", nil, 200, "", `"status":"cancelled"`},
		{"POST", "/v1/jobs/failed/discard?run=1", "", nil, 409, "stale_run", ""},
		{"POST", "/v1/jobs/failed/discard?run=2", "", nil, 200, "", `"id":"failed"`},
		{"POST", "/v1/jobs/failed/discard", "", nil, 404, "job_not_found", ""},
		{"GET", "/v1/jobs/failed/retry", "", nil, 405, "method_not_allowed", ""},
		{"GET", "/v1/jobs/done/events", "", nil, 200, "", "event: result"},
		{"HEAD", "/v1/jobs/waits/events", "", nil, 200, "", ""},
		{"GET", "/v1/jobs/done/events", "", []string{"Last-Event-ID", "1-succeeded-0"}, 204, "", ""},
		{"GET", "/v1/jobs/absent/events", "", nil, 404, "job_not_found", ""},
		{"DELETE", "/v1/jobs/waits", "", nil, 200, "", `"status":"cancelled"`},
		{"DELETE", "/v1/jobs/done", "", nil, 200, "", `"status":"succeeded"`},
		{"DELETE", "/v1/jobs/absent", "", nil, 404, "job_not_found", ""},

		{"GET", "/v1/queues", "", nil, 200, "", `{"queue":"default",`},
		{"POST", "/v1/queues/webhooks/pause", "", nil, 200, "", `"archived":0,"oldest_s":null,"paused":true}]`},
		{"POST", "/v1/queues/webhooks/resume", "", nil, 200, "", `"archived":0,"oldest_s":null,"paused":false}]`},
		{"POST", "/v1/queues/none/pause", "", nil, 404, "queue_not_found", ""},
		{"GET", "/v1/queues/bulk/pause", "", nil, 405, "method_not_allowed", ""},
		{"POST", "/v1/task-types/fast_summary/pause", "", nil, 200, "", `"paused_task_types":["fast_summary"]`},
		{"POST", "/v1/task-types/fast_summary/resume", "", nil, 200, "", `"paused_task_types":[]`},
		{"POST", "/v1/task-types/adhoc/pause", "", nil, 200, "", ""},
		{"POST", "/v1/task-types/none/pause", "", nil, 404, "task_type_not_found", ""},
		{"GET", "/v1/status", "", nil, 200, "", `{"redis":"here"}`},

		{"GET", "/openapi.json", "", nil, 200, "", `"openapi":"3.1.0"`},
		{"GET", "/openapi.yaml", "", nil, 200, "", "openapi: 3.1.0"},
		{"GET", "/docs", "", nil, 302, "", ""},
		{"GET", "/docs/", "", nil, 200, "", "swagger-ui-bundle.js"},
		{"GET", "/docs/swagger-ui.css", "", nil, 200, "", ".swagger-ui"},
		{"GET", "/docs/swagger-ui.js", "", nil, 404, "not_found", ""},

		{"GET", "/v1/jobs/", "", nil, 404, "not_found", ""},
		{"GET", "/v1/jobs/a/b", "", nil, 404, "not_found", ""},
		{"GET", "//v1//jobs/done", "", nil, 404, "not_found", ""},
		{"GET", "/v1/../v1/jobs/done", "", nil, 404, "not_found", ""},
		{"GET", "/v1/jobs/done/", "", nil, 404, "not_found", ""},
		{"GET", "/nothing", "", nil, 404, "not_found", ""},
		{"OPTIONS", "*", "", nil, 404, "not_found", ""},
		{"OPTIONS", "/v1/jobs", "", nil, 405, "method_not_allowed", ""},
		{"POST", "/v1/responses", "", nil, 404, "not_found", ""},
	} {
		name := row.method + " " + row.path
		answer := b.ask(row.method, row.path, row.body, row.headers...)
		assert.Equal(t, row.status, answer.Code, "%s: %s", name, answer.Body)
		assert.Contains(t, answer.Body.String(), row.want, name)
		assert.Equal(t, row.status == 405, answer.Header().Get("Allow") != "", name)
		assert.Equal(t, "nosniff", answer.Header().Get("X-Content-Type-Options"), name)
		assert.Contains(t, answer.Header().Get("Content-Security-Policy"), "default-src 'none'", name)
		assert.Empty(t, answer.Header().Get("Access-Control-Allow-Origin"), name)
		assertError(t, name, answer, row.code)
	}
}

func TestRedisIsAway(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	b := newBundle(t, client)
	server.Close()

	require.Equal(t, 200, b.ask("GET", "/healthz", "").Code, "the process lives")
	answer := b.ask("GET", "/readyz", "")
	assertError(t, "readyz", answer, "not_ready")
	require.Contains(t, answer.Body.String(), "reach Redis", "the reason")
	for _, row := range [][3]string{
		{"GET", "/v1/jobs/a"},
		{"GET", "/v1/jobs/a?wait=1s"},
		{"GET", "/v1/jobs/a/events"},
		{"DELETE", "/v1/jobs/a"},
		{"POST", "/v1/jobs/a/retry"},
		{"POST", "/v1/jobs/a/discard"},
		{"POST", "/v1/jobs", withID("a")},
		{"GET", "/v1/jobs"},
		{"GET", "/v1/queues"},
		{"POST", "/v1/queues/bulk/pause"},
	} {
		answer = b.ask(row[0], row[1], row[2])
		require.Equal(t, 503, answer.Code, row)
		assertError(t, row[1], answer, "store_unavailable")
		require.Equal(t, "1", answer.Header().Get("Retry-After"), row)
		require.NotContains(t, answer.Body.String(), "127.0.0.1", row)
	}
	answer = b.ask("POST", "/v1/jobs", "["+summary+"]")
	require.Contains(t, answer.Body.String(), `"code":"store_unavailable"`)
	require.Contains(t, answer.Body.String(), `send it again under this id`)
}

func TestReadyIsAnsweredWithinASecond(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	defer close(hangs)
	b := embedded(t, func(c *httpapi.Config) { c.Ready = func(context.Context) error { <-hangs; return nil } })
	begun := time.Now()
	answer := b.ask("GET", "/readyz", "")
	require.Equal(t, 503, answer.Code)
	require.Less(t, time.Since(begun), 3*time.Second)
	require.Contains(t, answer.Body.String(), "within 1s")
}

func TestReadyIsTheOwnersToSay(t *testing.T) {
	t.Parallel()
	b := embedded(t, func(c *httpapi.Config) { c.Ready = func(context.Context) error { return errors.New("draining") } })
	require.Contains(t, b.ask("GET", "/readyz", "").Body.String(), "draining")
	b = embedded(t)
	b.Drain()
	require.Contains(t, b.ask("GET", "/readyz", "").Body.String(), "ending")
}

func TestHandlerAsksForAClient(t *testing.T) {
	t.Parallel()
	_, err := httpapi.Handler(httpapi.Config{})
	require.ErrorContains(t, err, "Config.Client")
}

// Without keys everybody operates; with them, nobody may do anything that is not said.
func TestWithoutAuthenticate(t *testing.T) {
	t.Parallel()
	b := embedded(t, func(c *httpapi.Config) { c.Authenticate = nil })
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", summary).Code)
	require.Equal(t, 200, b.ask("POST", "/v1/queues/bulk/pause", "").Code)
}

// A panic is answered with an error, and its log holds nothing of the request.
func TestPanics(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	b := embedded(t, func(c *httpapi.Config) {
		c.Log = zerolog.New(&log)
		c.Routes = map[string]http.Handler{
			"GET /boom":  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the prompt") }),
			"GET /break": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK); panic("late") }),
		}
	})
	answer := b.ask("GET", "/boom", "")
	require.Equal(t, 500, answer.Code)
	assertError(t, "boom", answer, "internal")
	require.Contains(t, log.String(), "httpapi_test.go")
	require.NotContains(t, log.String(), "the prompt")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { b.ask("GET", "/break", "") })
}
