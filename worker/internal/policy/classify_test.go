package policy_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/worker/internal/policy"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// row is what one way to fail has to mean: its class, the next step, what the breaker is told, and whether a
// delivery that ends with it spends a retry.
type row struct {
	class  tasks.Class
	next   policy.Next
	effect gate.Effect
	spends bool
}

var (
	good          = row{"", policy.End, gate.Success, false}
	invalid       = row{tasks.ClassInvalid, policy.End, gate.Ignore, false}
	auth          = row{tasks.ClassAuth, policy.OtherAccounts, gate.TripAccount, true}
	quota         = row{tasks.ClassQuota, policy.OtherAccounts, gate.TripAccount, true}
	notServed     = row{tasks.ClassNotServed, policy.NextRoute, gate.NotServed, true}
	misconfigured = row{tasks.ClassMisconfigured, policy.NextRoute, gate.Trip, true}
	contextLength = row{tasks.ClassContextLength, policy.LargerModel, gate.Ignore, false}
	contentPolicy = row{tasks.ClassContentPolicy, policy.NextModel, gate.Ignore, false}
	throttled     = row{tasks.ClassThrottled, policy.Limited, gate.Throttle, false}
	unavailable   = row{tasks.ClassUnavailable, policy.AgainThenNextRoute, gate.Failure, true}
)

// rows has one for every status, dialect and body of the simulator.
var rows = map[string]row{
	"400": invalid, "422": invalid, "vllm-400": invalid, "vllm-400-flat": invalid, "vllm-422": invalid, "relay-400": invalid,

	"401": auth, "403": auth, "vllm-401": auth, "vllm-403": auth, "relay-401": auth, "article-401": auth,

	"insufficient-quota": quota, "402": quota, "vllm-402": quota, "relay-quota": quota, "relay-quota-429": quota,
	"error-200-quota": quota,

	"model-not-found": notServed, "model-not-found-403": notServed, "vllm-404": notServed, "relay-no-channel": notServed,
	"relay-no-channel-zh": notServed, "relay-no-channel-code": notServed, "relay-model-not-found": notServed,

	"vllm-404-path": misconfigured, "relay-html": misconfigured, "301": misconfigured, "307": misconfigured,
	"404-html": misconfigured, "html-200": misconfigured,

	"context-length": contextLength, "413": contextLength, "413-html": contextLength, "vllm-context-length": contextLength,
	"relay-context-length": contextLength,

	"content-policy": contentPolicy, "content-filter-400": contentPolicy, "vllm-content-policy": contentPolicy,
	"relay-sensitive-words": contentPolicy, "content-filter": contentPolicy, "refusal": contentPolicy,

	"429": throttled, "429-date": throttled, "429-ms": throttled, "429-reset": throttled, "429-plain": throttled,
	"vllm-429": throttled, "relay-429": throttled, "article-429": throttled,

	"500": unavailable, "502": unavailable, "503": unavailable, "504": unavailable, "529": unavailable, "408": unavailable,
	"409": unavailable, "425": unavailable, "vllm-500": unavailable, "vllm-503": unavailable, "relay-500": unavailable,
	"relay-503": unavailable, "article-503": unavailable, "502-html": unavailable, "504-html": unavailable,
	"error-200": unavailable, "no-choices": unavailable, "empty-content": unavailable, "hang": unavailable,
	"reset": unavailable, "hang-body": unavailable, "reset-body": unavailable, "truncated-body": unavailable,
	"truncated-json": unavailable, "malformed-json": unavailable, "empty-body": unavailable,

	"length": good, "no-usage": good, "slow-headers": good, "drip-body": good,
}

// billed are the failures after which nobody knows whether the call was billed.
var billed = []string{
	"504", "408", "504-html", "error-200", "error-200-quota", "no-choices", "empty-content", "hang", "reset", "hang-body",
	"reset-body", "truncated-body", "truncated-json", "malformed-json", "empty-body", "html-200", "relay-html",
}

// retries are the failures that say how long to wait.
var retries = []string{"429", "429-date", "429-ms", "429-reset"}

func TestEveryWayToFailHasARow(t *testing.T) {
	t.Parallel()
	base := serve(t)
	for _, failure := range simulator.Failures() {
		t.Run(failure.Name, func(t *testing.T) {
			t.Parallel()
			want, found := rows[failure.Name]
			require.True(t, found, "the simulator's %q has no row: what does it mean?", failure.Name)

			outcome := policy.Classify(tasks.KindChat, call(t, base, failure.Name))
			verdict := policy.For(outcome.Class)
			assert.Equal(t, want, row{outcome.Class, verdict.Next, verdict.Effect, verdict.Spends},
				"code %q, message %q", outcome.Code, outcome.Message)
			assert.Equal(t, slices.Contains(billed, failure.Name), outcome.MaybeBilled, "maybe billed")
			if slices.Contains(retries, failure.Name) {
				assert.InDelta(t, simulator.FailureRetryAfter.Seconds(), outcome.RetryAfter.Seconds(), 1.1)
			} else {
				assert.Zero(t, outcome.RetryAfter)
			}
			if want.class == "" {
				assert.NotEmpty(t, outcome.Text)
			} else {
				assert.NotEmpty(t, outcome.Code)
				assert.NotEmpty(t, outcome.Failure("m", "e").Hint)
			}
		})
	}
	assert.Len(t, rows, len(simulator.Failures()), "a row of a failure that the simulator no longer has")
}

func TestAGoodAnswer(t *testing.T) {
	t.Parallel()
	outcome := policy.Classify(tasks.KindChat, call(t, serve(t), ""))
	assert.Empty(t, outcome.Class)
	assert.NotEmpty(t, outcome.Text)
	require.NotNil(t, outcome.Usage)
	assert.Positive(t, outcome.Usage.CompletionTokens)
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	outcome := policy.Classify(tasks.KindChat, call(t, "http://127.0.0.1:1", ""))
	assert.Equal(t, tasks.ClassUnavailable, outcome.Class)
	assert.Equal(t, "connection_failed", outcome.Code)
	assert.False(t, outcome.MaybeBilled, "nothing was sent")
}

func TestTheWorkersOwnReasons(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]tasks.Class{
		policy.ErrCallTimeout: tasks.ClassUnavailable, policy.ErrCancelled: tasks.ClassCancelled,
		policy.ErrDeadline: tasks.ClassExpired, policy.ErrAbandoned: tasks.ClassAbandoned,
	} {
		outcome := policy.Classify(tasks.KindChat, provider.Answer{Err: cause, Sent: true})
		assert.Equal(t, want, outcome.Class)
		assert.True(t, outcome.MaybeBilled)
	}
}

func TestEveryClassButRejectedHasAVerdict(t *testing.T) {
	t.Parallel()
	internal := policy.For(tasks.ClassInternal)
	for _, class := range tasks.Classes() {
		if class != tasks.ClassRejected && class != tasks.ClassInternal {
			assert.NotEqual(t, internal, policy.For(class), "class %s", class)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(200, []byte(`{"choices":[{"message":{"content":"a"}}]}`))
	f.Add(404, []byte(`{"error":{"message":"x","code":404}}`))
	f.Add(500, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for _, kind := range []tasks.Kind{tasks.KindChat, tasks.KindEmbedding} {
			outcome := policy.Classify(kind, provider.Answer{Status: status, Body: body, Sent: true})
			if outcome.Class == "" {
				require.True(t, json.Valid(body), "only JSON can be a good answer")
			}
		}
	})
}

func serve(t *testing.T) string {
	t.Helper()
	return serveWith(t, simulator.Limits{})
}

func serveWith(t *testing.T, limits simulator.Limits) string {
	t.Helper()
	sim, err := simulator.New(simulator.Config{
		Regions: []simulator.RegionConfig{{Name: "sim", Slow: 100 * time.Millisecond, Limits: limits}},
	})
	require.NoError(t, err)
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		_ = sim.Close()
		server.Close()
	})
	return server.URL
}

func call(t *testing.T, base, failure string) provider.Answer {
	t.Helper()
	endpoint := &catalog.Endpoint{Name: "sim", URL: base + "/sim/v1", Auth: catalog.AuthNone}
	if failure != "" {
		endpoint.Headers = map[string]string{simulator.HeaderFailure: failure}
	}
	client, err := provider.New(provider.Config{Endpoint: endpoint})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, policy.ErrCallTimeout)
	defer cancel()
	return client.Do(ctx, provider.Call{
		Kind: tasks.KindChat, Model: "gpt-4.1", RequestID: "job-1",
		Body: json.RawMessage(`{"messages":[{"role":"user","content":"Water waits in a pool. The gate opens. It runs to the turbine."}]}`),
	})
}
