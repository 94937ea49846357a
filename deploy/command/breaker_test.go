package command

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/gate"
)

func TestBreakersByHand(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	one := func(args ...string) endpointStatus {
		t.Helper()
		got := run("", append(append([]string{"breaker"}, args...), "--json")...)
		require.Equal(t, exitOK, got.status, got.stderr)
		var e endpointStatus
		require.NoError(t, json.Unmarshal([]byte(got.stdout), &e))
		return e
	}
	opened := one("open", "simulated-apac", "--for", "1h")
	assert.Equal(t, gate.StateOpen, opened.State)
	assert.True(t, opened.Forced)
	require.NotNil(t, opened.Until)
	assert.WithinDuration(t, time.Now().Add(time.Hour), *opened.Until, time.Minute)
	assert.WithinDuration(t, time.Now().Add(10*time.Minute), *one("open", "simulated-apac").Until, time.Minute, "long_recovery")

	got := run("", "breaker", "list")
	assert.Contains(t, got.stdout, "open until ")
	assert.Contains(t, got.stdout, " (by hand)")
	assert.Contains(t, run("", "status").stdout, got.stdout, "status shows the same table")
	got = run("", "breaker", "open", "simulated-apac", "--for", "20m")
	assert.Regexp(t, `^the breaker of simulated-apac \(simulated\) is open until .*; it was before as well\n$`, got.stdout)
	got = run("", "breaker", "close", "simulated-apac")
	assert.Equal(t, outcomeOf{stdout: "the breaker of simulated-apac (simulated) is closed; it was not before\n"}, got)

	var list struct {
		Endpoints []map[string]any `json:"endpoints"`
	}
	require.NoError(t, json.Unmarshal([]byte(run("", "breaker", "list", "--json").stdout), &list))
	require.Len(t, list.Endpoints, 1)
	for _, field := range []string{
		"endpoint", "account", "priority", "state", "forced", "consecutive_failures", "consecutive_successes", "calls",
		"successes", "failures", "trips", "probes", "reopenings", "recoveries",
	} {
		assert.Contains(t, list.Endpoints[0], field)
	}
	assert.Equal(t, "closed", list.Endpoints[0]["state"])

	got = run("", "breaker", "open", "simulated-apca")
	assert.Equal(t, outcomeOf{status: exitFailed, stderr: "forebay: no endpoint \"simulated-apca\", did you mean \"simulated-apac\"?\n"}, got)
	got = run("", "breaker", "open", "simulated-apac", "--for", "1ms")
	assert.Equal(t, exitUsage, got.status)
	assert.Contains(t, got.stderr, "--for must be at least 1s, got 1ms")
}
