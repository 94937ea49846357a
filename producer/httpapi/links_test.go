package httpapi_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// A link that a webhook brings shows one result to whoever has it, for its time, and nothing else.
func TestLinkedResults(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	b.ask("POST", "/v1/jobs", `{"id":"large","tenant":"acme","task_type":"fast_summary","input":"x"}`)
	b.end("large", tasks.StatusFailed)
	path := func(link string) string {
		parsed, err := url.Parse(link)
		require.NoError(t, err)
		return parsed.RequestURI()
	}
	link := func(now time.Time) string {
		link, err := b.jobs.Catalog().ResultLink("acme", "", "large", 1, now)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(link, "https://forebay.example.com/v1/jobs/large/result?"))
		return path(link)
	}
	good := link(time.Now())
	answer := b.ask("GET", good, "", "X-Nobody", "1")
	require.Equal(t, 200, answer.Code, answer.Body)
	require.Contains(t, answer.Body.String(), `"text":"<short> & good"`)

	for name, bad := range map[string]string{
		"another job":   strings.Replace(good, "/large/", "/other/", 1),
		"another run":   strings.Replace(good, "run=1", "run=2", 1),
		"a longer time": strings.Replace(good, "expires=", "expires=9", 1),
		"expired":       link(time.Now().Add(-73 * time.Hour)),
		"unsigned":      good + "x",
	} {
		assertError(t, name, b.ask("GET", bad, "", "X-Nobody", "1"), "invalid_link")
	}
	require.Equal(t, 400, b.ask("GET", "/v1/jobs/large/result", "", "X-Nobody", "1").Code)

	require.Equal(t, 200, b.ask("POST", "/v1/jobs/large/retry", "").Code)
	assertError(t, "run again", b.ask("GET", good, "", "X-Nobody", "1"), "run_not_found")
}

func TestTheWebhooksOfBatches(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	acme := []string{"X-Tenant", "acme"}
	file := b.uploaded("{}", acme...)
	with := func(webhook string) string {
		return strings.Replace(batchOf(file.ID), "{", `{"webhook":`+webhook+`,`, 1)
	}
	for webhook, code := range map[string]string{
		`{"url":"https://example.com","events":["job.failed"]}`: "invalid_value",
		`{"url":"https://10.0.0.1"}`:                            "invalid_value",
		`{"url":"https://example.com","secret":"none"}`:         "invalid_value",
		`{"uri":"https://example.com"}`:                         "invalid_value",
		`"https://example.com"`:                                 "invalid_value",
	} {
		assertError(t, webhook, b.ask("POST", "/v1/batches", with(webhook), acme...), code)
	}
	made := decoded[batchObject](t, b.ask("POST", "/v1/batches", with(`{"url":"https://example.com/own"}`), acme...))
	kept, err := b.jobs.Batches().Get(t.Context(), made.ID, "acme")
	require.NoError(t, err)
	require.Equal(t, []tasks.Webhook{{URL: "https://example.com/own"}}, kept.Webhooks)

	made = decoded[batchObject](t, b.ask("POST", "/v1/batches", batchOf(file.ID), acme...))
	kept, err = b.jobs.Batches().Get(t.Context(), made.ID, "acme")
	require.NoError(t, err)
	require.Equal(t, []tasks.Webhook{{URL: "https://example.com/subscribed", Secret: "default"}}, kept.Webhooks)
}
