package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/alerts/alertstest"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestAlertsAreListed(t *testing.T) {
	t.Parallel()
	run, client := onRedisWithClient(t)
	assert.Equal(t, outcomeOf{stdout: "No alert fires.\n"}, run("", "alerts", "list"))
	assert.JSONEq(t, `{"firing":[],"undelivered":[]}`, run("", "alerts", "list", "--json").stdout)
	since := time.Now().Add(-time.Minute).UTC()
	alert := alerts.Alert{Name: alerts.BreakerOpen, Subject: "first", Severity: alerts.Warning, Since: since, Summary: "It is open."}
	_, err := alerts.New(client, keyspace.New("")).Record(t.Context(), 1, 0, alerts.Change{
		Write:    []alerts.State{{Alert: alert, FiredAt: since}},
		Messages: []alerts.Message{{ID: "alert_1", Channel: "ops", At: since, Alerts: []alerts.Alert{alert}}},
	})
	require.NoError(t, err)
	got := run("", "alerts", "list")
	assert.Regexp(t, `(?m)^breaker_open +first +warning +1m\ds +It is open\.$`, got.stdout)
	assert.Regexp(t, `(?m)^ops +\S+Z +0 +breaker_open/first$`, got.stdout)
	assert.Contains(t, run("", "status").stdout, "It is open.")
	var status struct{ Alerts []alerts.Alert }
	require.NoError(t, json.Unmarshal([]byte(run("", "status", "--json").stdout), &status))
	require.Len(t, status.Alerts, 1)
	assert.Equal(t, "breaker_open/first", status.Alerts[0].Key())
}

func TestChannelsAreTried(t *testing.T) {
	t.Parallel()
	receivers := alertstest.Start(t)
	_, server := redistest.Embedded(t)
	file := simulatedFile(t)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	dir := filepath.Dir(file)
	require.Contains(t, string(text), "\nalerts:\n")
	changed := strings.Replace(string(text), "\nalerts:\n", "\nalerts:\n"+receivers.Config(dir), 1)
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	run := func(args ...string) outcomeOf {
		t.Helper()
		return inProcess(t, "", append(args, "--redis", "redis://"+server.Addr(), "--config", file)...)
	}
	got := run("config", "check")
	require.Equal(t, exitOK, got.status, got.stderr)
	got = run("alerts", "test")
	want := ""
	for _, channel := range []string{"slack", "lark", "dingtalk", "webhook", "email"} {
		want += fmt.Sprintf("%s (%s) took the message\n", channel, channel)
		require.Len(t, receivers.Taken(channel), 1, channel)
		assert.Contains(t, receivers.Taken(channel)[0].Text, "This is a test")
	}
	assert.Equal(t, outcomeOf{stdout: want}, got)

	receivers.Answer("slack", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, alertstest.Planted, http.StatusNotFound) })
	got = run("alerts", "test", "slack", "email", "--json")
	assert.Equal(t, exitFailed, got.status)
	assert.JSONEq(t, `{"channels":[
		{"channel":"slack","type":"slack","taken":false,"error":"it answered with 404; look whether its URL still holds"},
		{"channel":"email","type":"email","taken":true}]}`, got.stdout)
	assert.Equal(t, "forebay: 1 of 2 channels did not take the message\n", got.stderr)
	require.Len(t, receivers.Taken("lark"), 1, "it was not named")

	got = run("alerts", "test", "slak")
	assert.Equal(t, exitUsage, got.status)
	assert.Contains(t, got.stderr, `there is no channel "slak" in the configuration; there are slack, lark, dingtalk, webhook, email`)
	require.NoError(t, os.Remove(filepath.Join(dir, "lark-secret")))
	got = run("config", "check")
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stdout+got.stderr, "alerts.channels[1].secret_file: the file ")
}
