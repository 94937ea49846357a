package tasks_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func TestWebhookRefusals(t *testing.T) {
	t.Parallel()
	url := "https://example.com/hooks"
	for _, row := range []struct {
		name    string
		webhook tasks.Webhook
		want    string
	}{
		{"no url", tasks.Webhook{}, "webhook.url: is missing"},
		{"endless url", tasks.Webhook{URL: url + strings.Repeat("x", 2048)}, "webhook.url: has 2073 bytes"},
		{"odd secret", tasks.Webhook{URL: url, Secret: "whsec_a+b/c="}, "webhook.secret: is the name of a secret"},
		{"unknown event", tasks.Webhook{URL: url, Events: []string{"batch.completed"}}, "webhook.events: must be some of job.succeeded, job.failed, job.cancelled, job.expired"},
		{"event twice", tasks.Webhook{URL: url, Events: []string{"job.failed", "job.failed"}}, "webhook.events: lists job.failed twice"},
		{"not an own header", header("Authorization", "x"), "webhook.headers: \"Authorization\" is none that may be added"},
		{"header of the spec", header("webhook-id", "x"), "is none that may be added"},
		{"hop by hop", header("Connection", "x"), "is none that may be added"},
		{"proxy's", header("x-forwarded-for", "10.0.0.1"), "proxies and frameworks act on it"},
		{"method", header("X-HTTP-Method-Override", "DELETE"), "proxies and frameworks act on it"},
		{"metadata token", header("X-aws-ec2-metadata-token", "x"), "proxies and frameworks act on it"},
		{"line break", header("X-Mine", "a\r\nHost: b"), "printable ASCII"},
		{"not ASCII", header("X-Mine", "é"), "printable ASCII"},
		{"odd name", header("X-Mine: a", "b"), "is none that may be added"},
		{"twice", tasks.Webhook{URL: url, Headers: map[string]string{"X-Mine": "a", "x-mine": "b"}}, "is given twice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			err := errors.Join(row.webhook.Validate(tasks.JobEvents())...)
			require.ErrorContains(t, err, row.want)
			require.ErrorIs(t, err, tasks.ErrInvalidJob)
		})
	}
	assert.Empty(t, (&tasks.Webhook{URL: url, Secret: "new.one", Events: tasks.JobEvents(), Headers: map[string]string{"X-Order": "7"}}).Validate(tasks.JobEvents()))
}

func header(name, value string) tasks.Webhook {
	return tasks.Webhook{URL: "https://example.com", Headers: map[string]string{name: value}}
}

// Where the answer goes is part of what a job asks for: the same id with another target is another job.
func TestTheFingerprintKnowsTheWaysOut(t *testing.T) {
	t.Parallel()
	prints := map[string]bool{}
	for _, job := range []tasks.Job{
		{Input: "x"},
		{Input: "x", ReplyStream: "mine"},
		{Input: "x", Webhook: &tasks.Webhook{URL: "https://example.com/a"}},
		{Input: "x", Webhook: &tasks.Webhook{URL: "https://example.com/b"}},
	} {
		fingerprint, err := tasks.Fingerprint(job)
		require.NoError(t, err)
		prints[fingerprint] = true
	}
	require.Len(t, prints, 4)
}

func TestWants(t *testing.T) {
	t.Parallel()
	var none *tasks.Webhook
	assert.False(t, none.Wants("job.failed"))
	assert.True(t, (&tasks.Webhook{}).Wants("job.failed"))
	assert.False(t, (&tasks.Webhook{Events: []string{"job.failed"}}).Wants("job.succeeded"))
}
