package command

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func TestResultForPeople(t *testing.T) {
	t.Parallel()
	at := func(second int) *time.Time { return new(time.Date(2026, 1, 2, 15, 4, second, 0, time.Local)) }
	result := tasks.Result{
		ID: "a", Status: tasks.StatusSucceeded, TaskType: "fast_summary", Run: 2, Retries: 1,
		Model: "m", Tier: "low", Endpoint: "eu", Region: "eu-west-1", Text: "An \x1b[31manswer.\nOf two lines.\n",
		Response: []byte(`{"system_fingerprint":"forebay-simulator"}`),
		Usage:    &tasks.Usage{PromptTokens: 10, CompletionTokens: 5}, CostUSD: 0.00002,
		CreatedAt: at(5), StartedAt: at(6), FinishedAt: at(17), Metadata: map[string]string{"b": "2", "a": "1"},
		Attempts: []tasks.Attempt{
			{Seq: 1, Model: "m", Endpoint: "apac", Region: "tokyo", StartedAt: *at(6)},
			{Seq: 2, Model: "m", Endpoint: "apac", StartedAt: *at(7), Ended: true, LatencyMS: 1234, Class: tasks.ClassUnavailable, HTTPStatus: 503, Code: "server_error", MaybeBilled: true},
			{Seq: 3, Model: "m", Endpoint: "eu", Region: "eu-west-1", StartedAt: *at(16), Ended: true, LatencyMS: 80, CostUSD: 0.00002, Probe: true},
		},
	}
	var out bytes.Buffer
	require.NoError(t, printResult(&out, result, (&settings{}).simulated(result), *at(30)))
	assert.Equal(t, `job          a
status       succeeded, run 2, 1 retry
task type    fast_summary
answered by  m@eu (simulated), eu-west-1, tier low
cost         $0.000020, 10 tokens in, 5 out, and 2 calls that may have been billed
times        accepted 15:04:05, started 15:04:06, ended 15:04:17 after 12s
metadata     a=1, b=2

CALL  ROUTE             REGION     STARTED   LATENCY  COST       OUTCOME
1     m@apac            tokyo      15:04:06  -        -          no end known (maybe billed)
2     m@apac            -          15:04:07  1.23s    -          unavailable (HTTP 503, server_error, maybe billed)
3     m@eu (simulated)  eu-west-1  15:04:16  80ms     $0.000020  answered (probe)

An [31manswer.
Of two lines.
`, out.String())
}

func TestRetryingResultForPeople(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.Local)
	var out bytes.Buffer
	require.NoError(t, printResult(&out, tasks.Result{
		ID: "a", Status: tasks.StatusRetrying, Retries: 2, CreatedAt: new(now.Add(-24 * time.Hour)),
		Waiting: &tasks.Waiting{Reason: "breaker_open", Route: "m@eu", Until: now.Add(time.Minute)},
		Error:   &tasks.Failure{Class: tasks.ClassUnavailable, Code: "timeout", Message: "no answer\nfrom eu", Hint: "wait"},
	}, nil, now))
	assert.Equal(t, `job         a
status      retrying, 2 retries
times       accepted 2026-01-01 15:04:05
waiting     breaker open of m@eu, until 15:05:05
last error  unavailable (timeout): no answer from eu
what to do  wait
`, out.String())
}

func TestCostCountsCalls(t *testing.T) {
	t.Parallel()
	one := tasks.Attempt{Seq: 1, Ended: true, MaybeBilled: true}
	assert.Equal(t, "$0, and 1 call that may have been billed", cost(tasks.Result{Attempts: []tasks.Attempt{one}}))
	assert.Equal(t, "$0, and 2 calls that may have been billed", cost(tasks.Result{Attempts: []tasks.Attempt{one, one}}))
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for usd, want := range map[float64]string{
		0: "$0", 2e-8: "$0.000000020", 0.000736: "$0.00074", 0.0099: "$0.0099", 0.0123: "$0.0123", 12.5: "$12.5000",
	} {
		assert.Equal(t, want, dollars(usd))
	}
	for text, want := range map[string]string{"12345ns": "12µs", "42229us": "42ms", "1234ms": "1.23s", "83456ms": "1m23s"} {
		duration, err := time.ParseDuration(text)
		require.NoError(t, err)
		assert.Equal(t, want, brief(duration))
	}
}
