package catalog_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// hooked is the small catalog with a secret of two keys for the default tenant.
func hooked(t *testing.T, change func(w *catalog.Webhooks)) (*catalog.Catalog, error) {
	t.Helper()
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.WriteFile(old, []byte("whsec_"+strings.Repeat("QUJD", 8)+"\n"), 0o600))
	c := small()
	c.Webhooks.Secrets = []catalog.WebhookSecret{{Keys: []catalog.SecretSource{{Env: "HOOK_SECRET"}, {File: old}}}}
	env := c.LookupEnv
	c.LookupEnv = func(name string) (string, bool) {
		if name == "HOOK_SECRET" {
			return hookSecret, true
		}
		return env(name)
	}
	if change != nil {
		change(&c.Webhooks)
	}
	return c, c.Validate()
}

func TestWebhookDefaults(t *testing.T) {
	t.Parallel()
	w := valid(t).Webhooks
	assert.Len(t, w.Schedule, 9)
	assert.Equal(t, 15*time.Second, w.Timeout)
	assert.Equal(t, 262144, w.InlineBytes)
	assert.Equal(t, [3]int{32, 8, 24}, [3]int{w.Slots, w.PerTarget, w.PerTenant})
}

func TestValidateRefusesWebhooks(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(w *catalog.Webhooks){
		"webhooks.allow_networks[0]: must be a network": func(w *catalog.Webhooks) { w.AllowNetworks = []string{"10.0.0.1"} },
		"webhooks.ports[0]: must be 1 to 65535":         func(w *catalog.Webhooks) { w.Ports = []int{70000} },
		"webhooks.schedule[0]: must be 1s to 168h":      func(w *catalog.Webhooks) { w.Schedule = []time.Duration{time.Millisecond} },
		"webhooks.schedule: has 51 waits; at most 50":   func(w *catalog.Webhooks) { w.Schedule = make([]time.Duration, 51) },
		"webhooks.public_url: must be the base":         func(w *catalog.Webhooks) { w.PublicURL = "forebay.example.com" },
		"webhooks.secrets[0].keys: must be 1 to 4":      func(w *catalog.Webhooks) { w.Secrets[0].Keys = nil },
		"webhooks.secrets[0].keys[0].env: must be the name of an environment variable": func(w *catalog.Webhooks) {
			w.Secrets[0].Keys[0].Env = hookSecret + "="
		},
		"webhooks.secrets[0].keys[0]: must have env or file, and not both": func(w *catalog.Webhooks) {
			w.Secrets[0].Keys[0].File = "x"
		},
		"webhooks.secrets[1]: the secret \"default\" of tenant \"default\" stands here twice": func(w *catalog.Webhooks) {
			w.Secrets = append(w.Secrets, w.Secrets[0])
		},
		"webhooks.subscriptions[0].url: the target is refused: it must be https": func(w *catalog.Webhooks) {
			w.Subscriptions = []catalog.Subscription{{URL: "http://example.com"}}
		},
		"webhooks.subscriptions[0].secret: no secret \"old\"": func(w *catalog.Webhooks) {
			w.Subscriptions = []catalog.Subscription{{URL: "https://example.com", Secret: "old"}}
		},
		"webhooks.subscriptions[0].events: must be some of batch.completed": func(w *catalog.Webhooks) {
			w.Subscriptions = []catalog.Subscription{{URL: "https://example.com", Events: []string{"job.failed"}}}
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			_, err := hooked(t, change)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), strings.TrimPrefix(hookSecret, "whsec_"))
		})
	}
}

func TestPrepareChecksTheWebhook(t *testing.T) {
	t.Parallel()
	c, err := hooked(t, nil)
	require.NoError(t, err)
	job := tasks.Job{TaskType: "summary", Input: "x", Webhook: &tasks.Webhook{URL: "https://example.com/hooks"}}
	_, err = c.Prepare(job, time.Now())
	require.NoError(t, err)
	for _, row := range []struct {
		want string
		with func(job *tasks.Job)
	}{
		{"webhook.url: the target is refused: it leads to 169.254.169.254", func(job *tasks.Job) { job.Webhook.URL = "https://169.254.169.254/" }},
		{"webhook.secret: no secret \"other\"; there are default", func(job *tasks.Job) { job.Webhook.Secret = "other" }},
		{"webhook.secret: tenant acme has no secret to sign webhooks with", func(job *tasks.Job) { job.Tenant = "acme" }},
	} {
		changed := job
		changed.Webhook = new(*job.Webhook)
		row.with(&changed)
		_, err = c.Prepare(changed, time.Now())
		require.ErrorIs(t, err, tasks.ErrInvalidJob)
		require.ErrorContains(t, err, row.want)
	}
}

func TestWebhookKeys(t *testing.T) {
	t.Parallel()
	c, err := hooked(t, nil)
	require.NoError(t, err)
	keys, err := c.WebhookKeys("default", "")
	require.NoError(t, err)
	require.Equal(t, []string{hookSecret, "whsec_" + strings.Repeat("QUJD", 8)}, keys)
	for _, value := range []string{"", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_***"} {
		c.LookupEnv = func(string) (string, bool) { return value, true }
		_, err = c.WebhookKeys("default", "default")
		require.ErrorContains(t, err, "the secret default of tenant default: the environment variable HOOK_SECRET")
		require.NotContains(t, err.Error(), "c2hvcnQ")
	}
}

func TestResultLinks(t *testing.T) {
	t.Parallel()
	c, err := hooked(t, func(w *catalog.Webhooks) { w.PublicURL = "https://forebay.example.com/" })
	require.NoError(t, err)
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	link, err := c.ResultLink("default", "", "doc-7", 2, now)
	require.NoError(t, err)
	parsed, err := url.Parse(link)
	require.NoError(t, err)
	assert.Equal(t, "https://forebay.example.com/v1/jobs/doc-7/result", parsed.Scheme+"://"+parsed.Host+parsed.Path)

	run, err := c.CheckResultLink("default", "doc-7", parsed.Query(), now.Add(72*time.Hour))
	require.NoError(t, err)
	assert.Equal(t, 2, run)
	_, err = c.CheckResultLink("default", "doc-7", parsed.Query(), now.Add(72*time.Hour+time.Second))
	require.ErrorContains(t, err, "it has expired")
	for _, change := range []func(q url.Values){
		func(q url.Values) { q.Set("run", "1") },
		func(q url.Values) { q.Set("expires", "99999999999") },
		func(q url.Values) { q.Set("signature", "") },
		func(q url.Values) { q.Set("secret", "other") },
	} {
		query := parsed.Query()
		change(query)
		_, err = c.CheckResultLink("default", "doc-7", query, now)
		require.ErrorIs(t, err, catalog.ErrLink)
	}
	_, err = c.CheckResultLink("default", "doc-8", parsed.Query(), now)
	require.ErrorIs(t, err, catalog.ErrLink)

	// The secret is changed: the link works for as long as its key is one of them.
	c.Webhooks.Secrets[0].Keys = append([]catalog.SecretSource{c.Webhooks.Secrets[0].Keys[1]}, c.Webhooks.Secrets[0].Keys[0])
	_, err = c.CheckResultLink("default", "doc-7", parsed.Query(), now)
	require.NoError(t, err)
}
