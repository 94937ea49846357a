package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// testLimits are those of one attempt.
var testLimits = webhooks.Limits{PerTarget: 8, PerTenant: 8, Lease: time.Minute, Threshold: 5, OpenFor: time.Second, OpenMost: time.Second}

// hook makes a webhook of a tenant that was answered with a status once, and died or was delivered.
func (b bundle) hook(name, tenant, url string, status int) string {
	b.t.Helper()
	ctx, store := b.t.Context(), b.jobs.Webhooks()
	id := webhooks.ID(name)
	require.NoError(b.t, store.Create(ctx, webhooks.Webhook{
		ID: id, Event: "job.failed", Tenant: tenant, To: tasks.Webhook{URL: url}, Job: name, Run: 1, At: time.Now(),
	}))
	if status == 0 {
		return id
	}
	record, err := store.Get(ctx, id, "")
	require.NoError(b.t, err)
	admission, err := store.Admit(ctx, record, "token", false, testLimits)
	require.NoError(b.t, err)
	require.True(b.t, admission.Granted)
	_, err = store.Begin(ctx, record, testLimits)
	require.NoError(b.t, err)
	next := webhooks.Next{State: webhooks.Delivered, Effect: webhooks.TargetWell}
	if status > 299 {
		next = webhooks.Next{State: webhooks.Dead, Reason: webhooks.ReasonExhausted, Effect: webhooks.TargetIll, Off: status == 410}
	}
	_, err = store.Settle(ctx, record, admission, webhooks.Attempt{
		Number: record.Attempts, At: time.Now(), Status: status, Latency: 31 * time.Millisecond, Answer: "thanks",
	}, next, testLimits)
	require.NoError(b.t, err)
	return id
}

func TestWebhooksOverHTTP(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	dead := b.hook("a", "acme", "https://hooks.example.com/a?token=1", 500)
	taken := b.hook("b", "acme", "https://hooks.example.com/b", 200)
	gone := b.hook("c", "acme", "https://gone.example.com/c", 410)
	waits := b.hook("d", "acme", "https://hooks.example.com/d", 0)
	theirs := b.hook("e", "other", "https://hooks.example.com/e", 500)
	acme := []string{"X-Tenant", "acme"}
	for _, row := range []struct {
		method, path, body string
		headers            []string
		status             int
		code, want, absent string
	}{
		{"GET", "/v1/webhooks", "", acme, 200, "", dead, theirs},
		{"GET", "/v1/webhooks?tenant=other", "", acme, 403, "tenant_forbidden", "", ""},
		{"GET", "/v1/webhooks?tenant=other", "", nil, 200, "", theirs, dead},
		{"GET", "/v1/webhooks", "", []string{"X-Nobody", "1"}, 403, "tenant_forbidden", "", ""},
		{"GET", "/v1/webhooks?state=dead", "", acme, 200, "", `"reason":"attempts_exhausted"`, taken},
		{"GET", "/v1/webhooks?state=dead&target=gone.example.com", "", acme, 200, "", gone, dead},
		{"GET", "/v1/webhooks?job=b", "", acme, 200, "", `"last":{"number":1`, "history"},
		{"GET", "/v1/webhooks?until=2000-01-01T00:00:00Z", "", acme, 200, "", `{"webhooks":[]}`, "next"},
		{"GET", "/v1/webhooks?limit=1", "", acme, 200, "", `"next":"`, ""},
		{"GET", "/v1/webhooks?state=lost", "", acme, 400, "invalid_request", "state", ""},
		{"GET", "/v1/webhooks?cursor=x", "", acme, 400, "invalid_request", "cursor", ""},
		{"GET", "/v1/webhooks/" + dead, "", acme, 200, "", `"url":"https://hooks.example.com/a?token=1"`, ""},
		{"GET", "/v1/webhooks/" + dead, "", acme, 200, "", `"history":[{"number":1,`, ""},
		{"GET", "/v1/webhooks/" + theirs, "", acme, 404, "webhook_not_found", "", "hooks.example.com"},
		{"GET", "/v1/webhooks/" + dead, "", []string{"X-Nobody", "1"}, 404, "webhook_not_found", "", "hooks.example.com"},
		{"GET", "/v1/webhooks/a%20b", "", nil, 404, "webhook_not_found", "", ""},

		{"POST", "/v1/webhooks/" + theirs + "/redeliver", "", acme, 404, "webhook_not_found", "", ""},
		{"POST", "/v1/webhooks/" + theirs + "/discard", "", acme, 404, "webhook_not_found", "", ""},
		{"POST", "/v1/webhooks/" + dead + "/redeliver", "", append([]string{"X-Reads", "1"}, acme...), 403, "write_forbidden", "", ""},
		{"POST", "/v1/webhooks/" + dead + "/redeliver", "", acme, 200, "", `"state":"pending","attempts":1,"cycle":2`, ""},
		{"POST", "/v1/webhooks/" + dead + "/discard", "", acme, 200, "", `"state":"discarded"`, ""},
		{"POST", "/v1/webhooks/" + waits + "/discard", "", acme, 200, "", `"state":"discarded"`, ""},
		{"POST", "/v1/webhooks/" + taken + "/discard", "", acme, 409, "webhook_ended", "", ""},
		{"POST", "/v1/webhooks/" + theirs + "/discard", "", nil, 200, "", `"state":"discarded"`, ""},

		{"GET", "/v1/webhook-targets", "", acme, 200, "", `"origin":"https://gone.example.com:443"`, ""},
		{"GET", "/v1/webhook-targets?tenant=other", "", acme, 403, "tenant_forbidden", "", ""},
		{"GET", "/v1/webhook-targets", "", nil, 200, "", `{"tenant":"default","targets":[]}`, ""},
		{"POST", "/v1/webhook-targets/switch-on", `{"url":"https://gone.example.com/c"}`, append([]string{"X-Reads", "1"}, acme...), 403, "write_forbidden", "", ""},
		{"POST", "/v1/webhook-targets/switch-on", `{"url":"https://gone.example.com/c"}`, acme, 200, "", `{"was_off":true}`, ""},
		{"POST", "/v1/webhook-targets/switch-on", `{"url":"https://gone.example.com/c"}`, acme, 200, "", `{"was_off":false}`, ""},
		{"POST", "/v1/webhook-targets/switch-on", `{"url":"https://never.example.com/c"}`, acme, 404, "target_not_found", "", ""},
		{"POST", "/v1/webhook-targets/switch-on", `{"url":"none"}`, acme, 400, "invalid_request", "url", ""},
		{"POST", "/v1/webhook-targets/switch-on", `{"url":"https://gone.example.com/c","tenant":"acme"}`, []string{"X-Tenant", "other"}, 403, "tenant_forbidden", "", ""},
	} {
		name := row.method + " " + row.path
		answer := b.ask(row.method, row.path, row.body, row.headers...)
		assert.Equal(t, row.status, answer.Code, "%s: %s", name, answer.Body)
		assert.Contains(t, answer.Body.String(), row.want, name)
		if row.absent != "" {
			assert.NotContains(t, answer.Body.String(), row.absent, name)
		}
		assertError(t, name, answer, row.code)
	}
}

// signing is an API whose catalog has secrets, one of which cannot be read.
func signing(t *testing.T) (b bundle, secret string) {
	t.Helper()
	client, _ := redistest.Embedded(t)
	known := newCatalog(t)
	secret = catalog.NewWebhookSecret()
	known.LookupEnv = func(name string) (string, bool) { return secret, name == "ACME_NEW" }
	known.Webhooks.AllowNetworks = []string{"127.0.0.0/8"}
	known.Webhooks.Secrets = []catalog.WebhookSecret{
		{Tenant: "acme", Name: "default", Keys: []catalog.SecretSource{{Env: "ACME_NEW"}, {File: "/nowhere/old"}}},
		{Tenant: "other", Name: "default", Keys: []catalog.SecretSource{{Env: "OTHER"}}},
	}
	require.NoError(t, known.Validate())
	b = newBundle(t, client, func(c *httpapi.Config) {
		jobs, err := producer.New(producer.Config{Redis: client, Catalog: known})
		require.NoError(t, err)
		t.Cleanup(func() { _ = jobs.Close() })
		c.Client = jobs
	})
	return b, secret
}

// Secrets are shown by their names and fingerprints; where they are is for operators; their values are shown to nobody.
func TestSecretsOfWebhooks(t *testing.T) {
	t.Parallel()
	b, secret := signing(t)
	for _, headers := range [][]string{nil, {"X-Tenant", "acme"}} {
		answer := b.ask("GET", "/v1/webhook-secrets", "", headers...)
		require.Equal(t, 200, answer.Code)
		text := answer.Body.String()
		require.Contains(t, text, producer.WebhookFingerprint(secret))
		require.NotContains(t, text, strings.TrimPrefix(secret, "whsec_"))
		require.Equal(t, headers == nil, strings.Contains(text, "ACME_NEW"), "operators only")
		require.Equal(t, headers == nil, strings.Contains(text, "/nowhere/old"), "operators only")
		require.Equal(t, headers == nil, strings.Contains(text, `"other"`))
	}
	assertError(t, "another's", b.ask("GET", "/v1/webhook-secrets?tenant=other", "", "X-Tenant", "acme"), "tenant_forbidden")
}

// A test is a webhook as any other; without a worker it is discarded when its time is over.
func TestATargetIsTried(t *testing.T) {
	t.Parallel()
	b, _ := signing(t)
	acme := []string{"X-Tenant", "acme"}
	for _, row := range []struct{ body, code, want string }{
		{`{"url":"https://10.0.0.1/hooks"}`, "invalid_request", "webhook.url"},
		{`{"url":"http://example.com/hooks"}`, "invalid_request", "webhook.url"},
		{`{"url":"https://example.com/hooks","secret":"none"}`, "invalid_request", "webhook.secret"},
		{`{"url":"https://example.com/hooks","tenant":"other"}`, "tenant_forbidden", ""},
		{`{"url":"https://example.com/hooks","headers":{"Host":"x"}}`, "invalid_request", "headers"},
		{`[]`, "invalid_json", ""},
	} {
		answer := b.ask("POST", "/v1/webhook-targets/test", row.body, acme...)
		assertError(t, row.body, answer, row.code)
		assert.Contains(t, answer.Body.String(), row.want)
	}
	assertError(t, "reads", b.ask("POST", "/v1/webhook-targets/test", `{"url":"https://example.com/hooks"}`, "X-Tenant", "acme", "X-Reads", "1"), "write_forbidden")

	answer := b.ask("POST", "/v1/webhook-targets/test?wait=200ms", `{"url":"https://example.com/hooks"}`, acme...)
	require.Equal(t, 200, answer.Code, answer.Body)
	var status tasks.WebhookStatus
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &status))
	require.Equal(t, "webhook.test", status.Event)
	require.Equal(t, "discarded", status.State, "nobody has sent it")
	require.Nil(t, status.Last)
	require.Contains(t, b.ask("GET", "/v1/webhooks/"+status.ID, "", acme...).Body.String(), `"state":"discarded"`)
}

// A job's webhooks are part of what is answered for the job, and not of what a link to its result gives away.
func TestAJobsWebhooks(t *testing.T) {
	t.Parallel()
	b, _ := signing(t)
	job := strings.Replace(withID("told"), "{", `{"webhook":{"url":"https://example.com/hooks"},`, 1)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", job, "X-Tenant", "acme").Code)
	require.NotContains(t, b.ask("GET", "/v1/jobs/told", "").Body.String(), `"webhooks"`)
	b.end("told", tasks.StatusFailed)
	answer := b.ask("GET", "/v1/jobs/told", "", "X-Tenant", "acme")
	var result tasks.Result
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &result))
	require.Len(t, result.Webhooks, 1)
	require.Equal(t, "job.failed", result.Webhooks[0].Event)
	require.Equal(t, "pending", result.Webhooks[0].State)
	require.Equal(t, "https://example.com/hooks", result.Webhooks[0].URL)
	listed := b.ask("GET", "/v1/webhooks?job=told", "", "X-Tenant", "acme").Body.String()
	require.Contains(t, listed, result.Webhooks[0].ID)

	// A job that waits for its webhook only is let go when that is given up.
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", strings.Replace(job, "told", "waits", 1), "X-Tenant", "acme").Code)
	b.end("waits", tasks.StatusSucceeded)
	require.NoError(t, json.Unmarshal(b.ask("GET", "/v1/jobs/waits", "").Body.Bytes(), &result))
	kept := func() time.Duration { return b.redis.PTTL(t.Context(), b.jobs.Keys().Job("waits")).Val() }
	require.Equal(t, time.Duration(-1), kept())
	require.Equal(t, 200, b.ask("POST", "/v1/webhooks/"+result.Webhooks[0].ID+"/discard", "", "X-Tenant", "acme").Code)
	require.InDelta(t, 24*time.Hour, kept(), float64(time.Minute))
}
