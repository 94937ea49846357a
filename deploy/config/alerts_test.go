package config

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/alerts"
)

func TestAlertsOfAFile(t *testing.T) {
	t.Parallel()
	file, err := Parse("forebay.yaml", []byte(smallest))
	require.NoError(t, err)
	want := alerts.DefaultSettings()
	want.Channels = []alerts.Channel{{Name: "c", Type: alerts.Slack, Severity: alerts.Warning, URL: alerts.Secret{Env: "A_URL"}}}
	require.Equal(t, &want, file.AlertSettings())

	file, err = Parse("forebay.yaml", []byte(strings.Replace(smallest, "alerts: {", `alerts: {for: {breaker_open: 0s}, oldest: {bulk: 0s}, grown: {webhooks: 5}, repeat: 4h, `, 1)))
	require.NoError(t, err)
	got := file.AlertSettings()
	assert.Zero(t, got.For[alerts.BreakerOpen])
	assert.Equal(t, time.Minute, got.For[alerts.NoWorker], "others keep their default")
	assert.Zero(t, got.Oldest["bulk"])
	assert.Equal(t, map[string]int{"jobs": 10, "webhooks": 5}, got.Grown)
	assert.Equal(t, 4*time.Hour, got.Repeat)

	file, err = Parse("forebay.yaml", []byte(strings.Replace(smallest, "alerts: {", `alerts: {enabled: off, `, 1)))
	require.NoError(t, err)
	require.Nil(t, file.AlertSettings())
}

// What a channel's variable holds is looked at before anything is sent, and never repeated.
func TestACheckReadsTheURLsOfChannels(t *testing.T) {
	t.Setenv("A_URL", "not-a-url-but-a-secret")
	file, err := Parse("forebay.yaml", []byte(smallest))
	require.NoError(t, err)
	var told []string
	for _, problem := range Check(file) {
		told = append(told, problem.String())
	}
	require.Contains(t, strings.Join(told, "\n"), "the environment variable A_URL holds no URL: https:// and the rest of it")
	require.NotContains(t, strings.Join(told, "\n"), "but-a-secret")
}

func TestBadAlertsAreRefusedWithTheirPlace(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"{enabled: maybe}":                                              "alerts.enabled: must be on or off",
		"{group: 1ms}":                                                  "alerts.group: must be 1s to 10m, got 1ms",
		"{resolve_after: 48h}":                                          "alerts.resolve_after: must be 1s to 24h, got 48h",
		"{repeat: 1s}":                                                  "alerts.repeat: must be 1m to 168h, got 1s",
		"{give_up_after: 1s}":                                           "alerts.give_up_after: must be 1m to 168h, got 1s",
		"{without: [breaker_opne]}":                                     "alerts.without[0]: there is no alert of that name, did you mean breaker_open?",
		"{for: {breaker_open: 48h}}":                                    "alerts.for.breaker_open: must be 0s to 24h, got 48h",
		"{oldest: {urgent: 1m}}":                                        "alerts.oldest.urgent: there is no queue of that name",
		"{grown: {jobs: -1}}":                                           "alerts.grown.jobs: must be 0 to 1000000, got -1",
		"{channels: [{name: a, type: irc}]}":                            `alerts.channels[0].type: must be slack, lark, dingtalk, email or webhook, got "irc"`,
		"{channels: [{name: a, type: slack}]}":                          "alerts.channels[0].url_env: is missing",
		"{channels: [{type: slack, url_env: A}]}":                       "alerts.channels[0].name: must be 1 to 64 characters",
		"{channels: [{name: a, type: webhook, url_env: A}]}":            "alerts.channels[0].secret_env: is missing",
		"{channels: [{name: a, type: slack, url_env: A, url_file: b}]}": "alerts.channels[0].url_file: stands beside url_env",
		`{channels: [{name: a, type: slack, url_env: "https://example.com/secret"}]}`:                                                                       "alerts.channels[0].url_env: must be the name of an environment variable",
		"{channels: [{name: a, type: slack, url_env: A, secret_env: B}]}":                                                                                   "alerts.channels[0].secret_env: is of no use",
		"{channels: [{name: a, type: slack, url_env: A, severity: bad}]}":                                                                                   `alerts.channels[0].severity: must be warning or critical, got "bad"`,
		"{channels: [{name: a, type: slack, url_env: A, mail: {from: a@b.example}}]}":                                                                       "alerts.channels[0].mail: is for the type email only",
		"{channels: [{name: a, type: slack, url_env: A}, {name: a, type: slack, url_env: A}]}":                                                              "alerts.channels[1].name: is that of a channel before",
		`{channels: [{name: a, type: email, mail: {server: mail, from: "a@b.example", to: ["c@d.example"]}}]}`:                                              "alerts.channels[0].mail.server: must be a host and port",
		`{channels: [{name: a, type: email, mail: {server: "mail:25", from: nobody, to: ["c@d.example"]}}]}`:                                                "alerts.channels[0].mail.from: must be an address",
		`{channels: [{name: a, type: email, mail: {server: "mail:25", from: "a@b.example"}}]}`:                                                              "alerts.channels[0].mail.to: is missing",
		`{channels: [{name: a, type: email, mail: {server: "mail:25", username: u, from: "a@b.example", to: ["c@d.example"]}}]}`:                            "alerts.channels[0].mail.password_env: is missing",
		`{channels: [{name: a, type: email, mail: {server: "mail:25", tls: off, username: u, password_env: P, from: "a@b.example", to: ["c@d.example"]}}]}`: "alerts.channels[0].mail.tls: must be starttls or tls",
	} {
		text := strings.Replace(smallest, "alerts: {channels: [{name: c, type: slack, url_env: A_URL}]}", "alerts: "+given, 1)
		_, err := Parse("forebay.yaml", []byte(text))
		require.ErrorContains(t, err, want, given)
		assert.NotContains(t, err.Error(), "example.com/secret")
	}
}
