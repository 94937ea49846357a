package command

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestStatusShowsHealth(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	file := simulatedFile(t)
	run := func(args ...string) outcomeOf {
		t.Helper()
		return inProcess(t, "", append(args, "--redis", "redis://"+server.Addr(), "--config", file)...)
	}
	assert.NotContains(t, run("status").stdout, "HEALTH", "nothing was probed")
	got := run("status", "--active")
	assert.Equal(t, outcomeOf{stdout: "No active endpoints are published: start `forebay scheduler` with a configuration.\n"}, got)
	assert.JSONEq(t, `{"active":[]}`, run("status", "--active", "--json").stdout)

	shared := gate.New(client, keyspace.New(""), &catalog.Catalog{})
	endpoint := gate.Endpoint{Account: "simulated", Name: "simulated-apac"}
	report := func(tick int64, effect gate.Effect, status int, class tasks.Class, latency time.Duration) {
		t.Helper()
		_, err := shared.ReportHealth(t.Context(), gate.HealthReport{
			Endpoint: endpoint, Tick: time.UnixMilli(tick), Every: time.Minute, Effect: effect, Status: status, Class: class,
			Latency: latency, Threshold: time.Second,
		})
		require.NoError(t, err)
	}
	shown := func() string {
		t.Helper()
		_, table, found := strings.Cut(run("status").stdout, "\nENDPOINT                    HEALTH")
		require.True(t, found)
		for line := range strings.Lines(table) {
			assert.LessOrEqual(t, len(line), 81)
		}
		return strings.Join(strings.Fields(strings.Split(table, "\n")[1]), " ")
	}
	report(1, gate.Success, 200, "", 42*time.Millisecond)
	assert.Regexp(t, `^simulated-apac \(simulated\) good 42ms \S+ ago its own$`, shown())
	report(2, gate.Success, 200, "", 2*time.Second)
	assert.Contains(t, shown(), " slow 2s ")
	report(3, gate.Failure, 503, tasks.ClassUnavailable, time.Millisecond)
	assert.Contains(t, shown(), " unavailable, HTTP 503 1ms ")
	report(4, gate.Failure, 0, tasks.ClassUnavailable, 5*time.Second)
	assert.Regexp(t, ` unavailable 5s \S+ ago behind$`, shown())

	var reply statusReply
	require.NoError(t, json.Unmarshal([]byte(run("status", "--json").stdout), &reply))
	health := reply.Endpoints[0].Health
	require.NotNil(t, health)
	assert.True(t, health.Behind)
	assert.EqualValues(t, 3, health.ConsecutiveBad)
	assert.InDelta(t, 5000, health.LatencyMS, 0)
	assert.WithinDuration(t, time.Now(), health.At, time.Minute)

	since := time.Now().Add(-time.Minute).UTC()
	require.NoError(t, gate.PublishActive(t.Context(), client, keyspace.New(""), []gate.Active{
		{Tier: "low", Model: "deepseek-v3.2", Endpoint: "simulated-apac", Region: "apac", Since: since, LatencyMS: 42},
		{Tier: "medium", Model: "gpt-4.1", Since: since},
		{Tier: "another", Model: "m", Endpoint: "e", Since: since},
	}))
	text := run("status", "--active").stdout
	assert.Regexp(t, `(?m)^low +deepseek-v3.2 +simulated-apac \(simulated\) +apac +\S+.* 42ms$`, text)
	assert.Regexp(t, `(?m)^medium +gpt-4.1 +none: all are open +- `, text)
	assert.Less(t, strings.Index(text, "\nlow"), strings.Index(text, "\nanother"), "in the order of the configuration")
	var published activeReply
	require.NoError(t, json.Unmarshal([]byte(run("status", "--active", "--json").stdout), &published))
	require.Len(t, published.Active, 3)
	assert.Equal(t, "simulated-apac", published.Active[0].Endpoint)
}

// The scheduler, a worker and a provider as users have them: the first region fails, is asked last without one job
// having met it, and comes back.
func TestHealthProbesThroughTheBinary(t *testing.T) {
	t.Parallel()
	d := newSite(t, "--region", "near", "--region", "far")
	path := filepath.Join(d.dir, defaultConfigPath)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	changed := bytes.Replace(text, []byte("  interval: 60s\n"), []byte("  interval: 1s\n"), 1)
	require.NotEqual(t, text, changed)
	require.NoError(t, os.WriteFile(path, changed, 0o600))
	d.worker(t)
	leader := d.start(t, "scheduler", "--log-format", "json")
	leader.stderr.await(t, `"message":"leads"`)

	health := func(i int) *healthStatus {
		t.Helper()
		var reply statusReply
		require.NoError(t, json.Unmarshal([]byte(d.ok(t, "status", "--json")), &reply))
		return reply.Endpoints[i].Health
	}
	active := func() string {
		t.Helper()
		var reply activeReply
		require.NoError(t, json.Unmarshal([]byte(d.ok(t, "status", "--active", "--json")), &reply))
		if len(reply.Active) == 0 {
			return ""
		}
		return reply.Active[0].Endpoint
	}
	outage := func(body string) {
		t.Helper()
		answer, err := http.Post(strings.Replace(d.counters, "counters", "outage", 1), "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Less(t, answer.StatusCode, 300)
	}
	eventually(t, "both are probed", func() bool { return health(0) != nil && health(1) != nil && health(0).ConsecutiveGood >= 2 })
	eventually(t, "the first is active", func() bool { return active() == "simulated-near" })
	outage(`{"region":"near","kinds":["503"]}`)
	eventually(t, "the first is behind", func() bool { return health(0).Behind })
	assert.Equal(t, 503, health(0).HTTPStatus)
	eventually(t, "the second is active", func() bool { return active() == "simulated-far" })
	time.Sleep(5 * time.Second) // until the worker has looked
	d.ok(t, "enqueue", "--type", "fast_summary", "--input", document, "--id", "a", "--wait")
	result := d.result(t, "a")
	require.Len(t, result.Attempts, 1)
	assert.Equal(t, "simulated-far", result.Attempts[0].Endpoint)
	assert.EqualValues(t, 1, d.asked(t), "health probes are no calls")
	outage(`{"region":"near"}`)
	eventually(t, "it comes back", func() bool { return !health(0).Behind })
	leader.signal(t)
	assert.Equal(t, exitOK, leader.end(t), leader.stderr.text())
}
