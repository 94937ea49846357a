package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

const small = `
redis: {url: 'redis://127.0.0.1:6379/0'}
accounts: {a: {key_env: KEY_OF_A}}
endpoints:
  one: {account: a, url: 'https://one.example/v1', priority: 1}
  two: {account: a, url: 'https://two.example/v1', priority: 2, models: {m: m-2, n: n-2}}
models: {m: {output: 1}, n: {output: 2}}
tiers: [{name: low, models: [m, n]}]
fallback_tier: low
task_types:
  t: {model: m, prompt: '{{input}}', defaults: {max_tokens: 5, temperature: 0, stop: [a, b]}}
tenants: {acme: {requests_per_minute: 7}}
`

func readText(t *testing.T, text string) *config.File {
	t.Helper()
	file, err := config.Parse("forebay.yaml", []byte(text))
	require.NoError(t, err)
	return file
}

// The version tells what is said, not how.
func TestVersion(t *testing.T) {
	t.Setenv("KEY_OF_A", "sk-one")
	version := readText(t, small).Version()
	assert.Len(t, version, 12)
	for range 20 {
		require.Equal(t, version, readText(t, small).Version(), "the order of maps is none")
	}
	for name, text := range map[string]string{
		"comments":      "# a comment\n" + small,
		"order":         strings.Replace(small, "m: m-2, n: n-2", "n: n-2, m: m-2", 1),
		"said defaults": small + "worker: {slots: 16}\nlog: {level: info}\n",
	} {
		assert.Equal(t, version, readText(t, text).Version(), name)
	}
	t.Setenv("KEY_OF_A", "sk-two")
	assert.Equal(t, version, readText(t, small).Version(), "no secret has a part in it")
	for name, text := range map[string]string{
		"price":    strings.Replace(small, "output: 2", "output: 3", 1),
		"prompt":   strings.Replace(small, "'{{input}}'", "'Say: {{input}}'", 1),
		"default":  strings.Replace(small, "temperature: 0", "temperature: 1", 1),
		"tenant":   strings.Replace(small, "acme: {requests_per_minute: 7}", "acme: {requests_per_minute: 8}", 1),
		"endpoint": strings.Replace(small, "https://two", "https://three", 1),
		"redis":    strings.Replace(small, "6379/0", "6379/1", 1),
		"schedule": small + "schedules: [{name: s, cron: '@daily', job: {task_type: t, input: x}}]\n",
		"slots":    small + "worker: {slots: 17}\n",
	} {
		assert.NotEqual(t, version, readText(t, text).Version(), name)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	before := readText(t, small)
	for _, test := range []struct {
		name, text string
		// want are the fields by kind; a kind that is not here has none.
		want map[string]string
	}{
		{"nothing", small, nil},
		{"the catalog", strings.Replace(small, "output: 2", "output: 3", 1), nil},
		{"health, tenants and schedules", strings.Replace(small, "acme:", "other:", 1) +
			"health: {interval: 5m}\nschedules: [{name: s, cron: '@daily', job: {task_type: t, input: x}}]\n", nil},
		{
			"redis", strings.Replace(small, "6379/0'", "6379/1', prefix: 'p:'", 1),
			map[string]string{"worker": "redis.url redis.prefix", "producer": "redis.url redis.prefix", "scheduler": "redis.url redis.prefix", "dev": "redis.url redis.prefix"},
		},
		{"a worker's", small + "worker: {slots: 3, drain_timeout: 5m}\n", map[string]string{
			"worker": "worker.slots worker.drain_timeout", "dev": "worker.slots worker.drain_timeout",
		}},
		{"a producer's", small + "http: {listen: '127.0.0.1:9000', tls: {cert_file: c, key_file: k}}\ninbox: {max_queued: 5}\n", map[string]string{
			"producer": "http.listen http.tls.cert_file http.tls.key_file inbox.max_queued",
			"dev":      "http.listen http.tls.cert_file http.tls.key_file inbox.max_queued",
		}},
		{"slots of webhooks", small + "webhooks: {slots: 3}\n", map[string]string{"worker": "webhooks.slots", "dev": "webhooks.slots"}},
		{"the log", small + "log: {level: debug}\n", map[string]string{
			"worker": "log.level", "producer": "log.level", "scheduler": "log.level", "dev": "log.level",
		}},
	} {
		after := readText(t, test.text)
		for _, kind := range []string{"worker", "producer", "scheduler", "dev"} {
			assert.Equal(t, test.want[kind], strings.Join(before.Restart(after, kind), " "), "%s: %s", test.name, kind)
		}
	}
}
