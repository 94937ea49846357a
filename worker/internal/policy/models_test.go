package policy_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/worker/internal/policy"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// A list of models fails in the same ways as a call, but for those that are in the answer to one.
func TestEveryWayInWhichAListOfModelsFails(t *testing.T) {
	t.Parallel()
	base := serve(t)
	for _, failure := range simulator.Failures() {
		t.Run(failure.Name, func(t *testing.T) {
			t.Parallel()
			want := rows[failure.Name].class
			if _, known := bent[failure.Name]; known {
				want = ""
			}
			outcome := policy.ClassifyModels(listModels(t, base, failure.Name))
			assert.Equal(t, want, outcome.Class, "code %q, message %q", outcome.Code, outcome.Message)
		})
	}
	for _, answer := range []provider.Answer{
		{Status: 200, Body: []byte(`[]`)},
		{Status: 200, Body: []byte(`OK`)},
		{Status: 200},
		{Status: 204},
		{Status: 201, Body: []byte(`{"object":"list","data":[]}`)},
	} {
		assert.Equal(t, tasks.ClassUnavailable, policy.ClassifyModels(answer).Class, "%d %s", answer.Status, answer.Body)
	}
	assert.Empty(t, policy.ClassifyModels(provider.Answer{Status: 200, Body: []byte(`{"object":"list","data":[{"id":"m"}]}`)}).Class)
}

// bent are the failures that are in the answer to a call, which a list of models is not.
var bent = map[string]bool{
	"no-choices": true, "empty-content": true, "content-filter": true, "refusal": true, "hang-body": true, "reset-body": true,
	"truncated-body": true, "truncated-json": true, "malformed-json": true, "empty-body": true,
}

func listModels(t *testing.T, base, failure string) provider.Answer {
	t.Helper()
	client, err := provider.New(provider.Config{Endpoint: &catalog.Endpoint{
		Name: "e", URL: base + "/sim/v1", Auth: catalog.AuthNone, Headers: map[string]string{simulator.HeaderFailure: failure},
	}})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, policy.ErrCallTimeout)
	defer cancel()
	return client.ListModels(ctx, "")
}
