package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// door is an API behind an Auth, with keys to it.
type door struct {
	t       *testing.T
	client  redis.UniversalClient
	store   *apikeys.Store
	auth    *httpapi.Auth
	handler http.Handler
	keys    map[string]string // the texts, by what they are for
	ids     map[string]string
}

const (
	onLoopback = "127.0.0.1:8080"
	onNetwork  = "192.0.2.10:8080"
)

// newDoor makes keys for the tenants acme and other, and for operators, each also one that may only read.
func newDoor(t *testing.T, client redis.UniversalClient, limits map[string]httpapi.TenantLimits) *door {
	t.Helper()
	d := &door{
		t: t, client: client, store: apikeys.New(client, keyspace.New("")), keys: map[string]string{"bad": "fbk_no_key", "none": ""}, ids: map[string]string{},
	}
	for name, key := range map[string]apikeys.Key{
		"acme": {Tenant: "acme", Write: true}, "acme reads": {Tenant: "acme"}, "other": {Tenant: "other", Write: true},
		"default": {Tenant: "default", Write: true}, "operator": {Operator: true, Write: true}, "operator reads": {Operator: true},
	} {
		made, text, err := d.store.Create(t.Context(), key)
		require.NoError(t, err)
		d.keys[name], d.ids[name] = text, made.ID
	}
	d.open(onNetwork, limits)
	return d
}

func (d *door) open(address string, limits map[string]httpapi.TenantLimits) {
	d.t.Helper()
	auth, err := httpapi.NewAuth(d.t.Context(), httpapi.AuthConfig{Redis: d.client, Address: address, Tenants: limits})
	require.NoError(d.t, err)
	d.t.Cleanup(auth.Close)
	catalog := newCatalog(d.t)
	jobs, err := producer.New(producer.Config{Redis: d.client, Catalog: catalog})
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = jobs.Close() })
	d.auth = auth
	d.handler, err = httpapi.Handler(httpapi.Config{
		Client: jobs, Authenticate: auth.Authenticate, Status: func(context.Context) (any, error) { return "well", nil },
		Metrics: http.NotFoundHandler(), // whose answer shows who gets there
	})
	require.NoError(d.t, err)
}

// request is one whose key, if any, is in the header, changed by edit.
func (d *door) ask(method, path, key, body string, edit ...func(r *http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://forebay.example"+path, strings.NewReader(body))
	if text := d.keys[key]; text != "" {
		r.Header.Set("Authorization", "Bearer "+text)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, change := range edit {
		change(r)
	}
	answer := httptest.NewRecorder()
	d.handler.ServeHTTP(answer, r)
	return answer
}

func codeOf(answer *httptest.ResponseRecorder) string {
	var body struct {
		Error struct{ Type, Code string }
	}
	_ = json.Unmarshal(answer.Body.Bytes(), &body)
	return body.Error.Code
}

const someJob = `{"task_type":"fast_summary","input":"Water waits."}`

// Every address, asked by everybody.
func TestEveryAddressForEveryKey(t *testing.T) {
	t.Parallel()
	d := newDoor(t, withJobs(t), nil) // the jobs "waits" and "done" are the tenant default's
	who := []string{"none", "bad", "acme reads", "acme", "default", "operator reads", "operator"}
	all := func(status int) []int { return []int{status, status, status, status, status, status, status} }
	for _, row := range []struct {
		method, path, body string
		statuses           []int
	}{
		{"GET", "/healthz", "", all(200)},
		{"GET", "/readyz", "", all(200)},
		{"GET", "/login", "", all(200)},
		{"PUT", "/login", "", all(405)},
		{"GET", "/logout", "", all(405)},
		{"POST", "/logout", "", all(303)},
		{"GET", "/openapi.json", "", []int{401, 401, 200, 200, 200, 200, 200}},
		{"GET", "/docs/", "", []int{401, 401, 200, 200, 200, 200, 200}},
		{"GET", "/nowhere", "", []int{401, 401, 404, 404, 404, 404, 404}},
		{"GET", "/v1/jobs", "", []int{401, 401, 200, 200, 200, 200, 200}},
		{"GET", "/v1/jobs/done", "", []int{401, 401, 404, 404, 200, 200, 200}},
		{"GET", "/v1/jobs/done/events", "", []int{401, 401, 404, 404, 200, 200, 200}},
		{"GET", "/v1/jobs/absent", "", []int{401, 401, 404, 404, 404, 404, 404}},
		{"POST", "/v1/jobs", someJob, []int{401, 401, 403, 201, 201, 403, 201}},
		{"POST", "/v1/jobs", `{"tenant":"other",` + someJob[1:], []int{401, 401, 403, 403, 403, 403, 201}},
		{"DELETE", "/v1/jobs/done", "", []int{401, 401, 403, 404, 200, 403, 200}},
		{"GET", "/v1/status", "", []int{401, 401, 403, 403, 403, 200, 200}},
		{"GET", "/metrics", "", []int{401, 401, 403, 403, 403, 404, 404}},
		{"POST", "/v1/queues/bulk/pause", "", []int{401, 401, 403, 403, 403, 403, 200}},
		{"GET", "/monitor", "", []int{401, 401, 403, 403, 403, 200, 200}},
		{"GET", "/monitor/api/queues", "", []int{401, 401, 403, 403, 403, 200, 200}},
		{"POST", "/monitor/api/queues/bulk:resume", "", []int{401, 401, 403, 403, 403, 403, 204}},
		{"GET", "/monitoring", "", []int{401, 401, 404, 404, 404, 404, 404}},
		{"OPTIONS", "/v1/jobs", "", []int{401, 401, 405, 405, 405, 405, 405}},
	} {
		for i, key := range who {
			name := row.method + " " + row.path + " by " + key
			answer := d.ask(row.method, row.path, key, row.body)
			assert.Equal(t, row.statuses[i], answer.Code, "%s: %s", name, answer.Body)
			challenge := answer.Header().Get("WWW-Authenticate")
			switch {
			case answer.Code == 401 && key == "bad":
				assert.Equal(t, `Bearer realm="forebay", error="invalid_token"`, challenge, name)
				assertKind(t, name, answer, "authentication_error", "invalid_api_key")
			case answer.Code == 401:
				assert.Equal(t, `Bearer realm="forebay"`, challenge, name)
				assertKind(t, name, answer, "authentication_error", "missing_api_key")
			case answer.Code == 403:
				assertKind(t, name, answer, "permission_error", codeOf(answer))
				assert.Contains(t, []string{"write_forbidden", "operator_only", "tenant_forbidden"}, codeOf(answer), name)
			}
			for _, secret := range d.keys {
				if secret != "" {
					assert.NotContains(t, answer.Body.String(), secret, name)
				}
			}
		}
	}
	// Another tenant's job is as absent as one that there is not.
	absent, others := d.ask("GET", "/v1/jobs/absent", "acme", ""), d.ask("GET", "/v1/jobs/done", "acme", "")
	assert.Equal(t, strings.ReplaceAll(absent.Body.String(), "absent", "done"), others.Body.String())
}

func assertKind(t *testing.T, name string, answer *httptest.ResponseRecorder, kind, code string) {
	t.Helper()
	var body struct {
		Error map[string]any `json:"error"`
	}
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &body), name)
	assert.Equal(t, kind, body.Error["type"], name)
	assert.Equal(t, code, body.Error["code"], name)
	assert.Len(t, body.Error, 4, name)
}

func TestHeadersThatAreNoKey(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	d := newDoor(t, client, nil)
	good := d.keys["operator"]
	for name, row := range map[string]struct {
		headers []string
		status  int
	}{
		"bearer":     {[]string{"bearer " + good}, 200},
		"spaces":     {[]string{"Bearer   " + good}, 200},
		"basic":      {[]string{"Basic " + good}, 401},
		"bare":       {[]string{good}, 401},
		"empty":      {[]string{""}, 401},
		"two":        {[]string{"Bearer " + good, "Bearer " + good}, 401},
		"with more":  {[]string{"Bearer " + good + " x"}, 401},
		"half":       {[]string{"Bearer " + good[:40]}, 401},
		"query":      {nil, 401},
		"very large": {[]string{"Bearer " + strings.Repeat("x", 1<<20)}, 401},
	} {
		answer := d.ask("GET", "/v1/status?key="+good, "none", "", func(r *http.Request) { r.Header["Authorization"] = row.headers })
		want := row.status
		if want == 200 {
			want = 400 // it was let in, and the parameter is not known
		}
		assert.Equal(t, want, answer.Code, name)
		assert.NotContains(t, answer.Body.String(), good[20:], name)
	}
}

// Keys come and go while a server runs; what it asks for follows.
func TestKeysFollow(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	store := apikeys.New(client, keyspace.New(""))
	_, err := httpapi.NewAuth(t.Context(), httpapi.AuthConfig{Redis: client, Address: onNetwork})
	require.ErrorContains(t, err, "192.0.2.10:8080 is not on loopback, and there is no API key yet")
	require.ErrorContains(t, err, "forebay keys create")

	local := &door{t: t, client: client, keys: map[string]string{}}
	local.open(onLoopback, nil)
	here := func(r *http.Request) { r.RemoteAddr, r.Host = "127.0.0.1:5000", "localhost:8080" }
	require.Equal(t, 200, local.ask("GET", "/v1/status", "", "", here).Code)

	key, text, err := store.Create(t.Context(), apikeys.Key{Operator: true, Write: true})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return local.ask("GET", "/v1/status", "", "", here).Code == 401 }, 10*time.Second, time.Millisecond)
	network := &door{t: t, client: client, keys: map[string]string{"operator": text}}
	network.open(onNetwork, nil)
	require.Equal(t, 200, network.ask("GET", "/v1/status", "operator", "").Code)

	_, err = store.Revoke(t.Context(), key.ID)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return network.ask("GET", "/v1/status", "operator", "").Code == 401 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 401, network.ask("GET", "/v1/status", "", "", here).Code, "the last key is gone, and nobody is let in")
	require.Eventually(t, func() bool { return local.ask("GET", "/v1/status", "", "", here).Code == 200 }, 10*time.Second, time.Millisecond)
}

// Without keys this machine is served, and nobody who only looks like it.
func TestLoopbackWithoutKeys(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	d := &door{t: t, client: client, keys: map[string]string{}}
	d.open(onLoopback, nil)
	for _, row := range []struct {
		host, remote, header, value string
		get, post                   int
	}{
		{"localhost:8080", "127.0.0.1:5000", "", "", 200, 201},
		{"localhost", "127.0.0.1:5000", "", "", 200, 201},
		{"127.0.0.1:8080", "127.0.0.1:5000", "", "", 200, 201},
		{"[::1]:8080", "[::1]:5000", "", "", 200, 201},
		{"[::1]", "[::1]:5000", "", "", 200, 201},
		{"localhost:8080", "127.0.0.1:5000", "Origin", "http://localhost:8080", 200, 201},
		{"localhost:8080", "127.0.0.1:5000", "Sec-Fetch-Site", "same-origin", 200, 201},
		// A page of another site, under its own name and under ours.
		{"rebound.example:8080", "127.0.0.1:5000", "", "", 403, 403},
		{"localhost.rebound.example", "127.0.0.1:5000", "", "", 403, 403},
		{"127.0.0.1.rebound.example", "127.0.0.1:5000", "", "", 403, 403},
		{"", "127.0.0.1:5000", "", "", 403, 403},
		{"localhost:8080", "127.0.0.1:5000", "Origin", "https://evil.example", 200, 403},
		{"localhost:8080", "127.0.0.1:5000", "Origin", "http://localhost:3000", 200, 403},
		{"localhost:8080", "127.0.0.1:5000", "Origin", "null", 200, 403},
		{"localhost:8080", "127.0.0.1:5000", "Sec-Fetch-Site", "cross-site", 200, 403},
		{"localhost:8080", "127.0.0.1:5000", "Sec-Fetch-Site", "same-site", 200, 403},
		// Another machine.
		{"localhost:8080", "192.0.2.1:5000", "", "", 403, 403},
		{"localhost:8080", "127.0.0.1:5000", "X-Forwarded-For", "192.0.2.1", 403, 403},
		{"localhost:8080", "127.0.0.1:5000", "Forwarded", "for=192.0.2.1", 403, 403},
	} {
		edit := func(r *http.Request) {
			r.Host, r.RemoteAddr = row.host, row.remote
			if row.header != "" {
				r.Header.Set(row.header, row.value)
			}
		}
		name := row.host + " " + row.remote + " " + row.header + " " + row.value
		assert.Equal(t, row.get, d.ask("GET", "/v1/status", "", "", edit).Code, "GET %s", name)
		assert.Equal(t, row.post, d.ask("POST", "/v1/jobs", "", someJob, edit).Code, "POST %s", name)
	}
}

// While it cannot be known whose a key is, nobody is let in, and nobody is told that the key is wrong.
func TestKeysThatCannotBeRead(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	d := newDoor(t, client, nil)
	session := d.logIn("operator")
	server.SetError("LOADING")
	require.Eventually(t, func() bool { return d.ask("GET", "/v1/jobs/x", "bad", "").Code == 503 }, 20*time.Second, 50*time.Millisecond)
	for _, answer := range []*httptest.ResponseRecorder{
		d.ask("GET", "/v1/status", "operator", ""), d.ask("GET", "/v1/status", "none", ""),
		d.ask("GET", "/v1/status", "none", "", withCookie(session)),
	} {
		assertKind(t, "away", answer, "server_error", "store_unavailable")
		assert.Equal(t, "1", answer.Header().Get("Retry-After"))
		assert.NotContains(t, answer.Body.String(), "LOADING")
	}
	server.SetError("")
}

// withJobs is a server with a job that waits and one that has succeeded, both of the tenant default.
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
		ID: "done", Run: 1, Status: tasks.StatusSucceeded, Result: tasks.Result{Text: "short"}, Response: []byte(`{"choices":[]}`),
	})
	require.NoError(t, err)
	return client
}

func embeddedDoor(t *testing.T) (*door, *miniredis.Miniredis) {
	t.Helper()
	client, server := redistest.Embedded(t)
	return newDoor(t, client, nil), server
}
