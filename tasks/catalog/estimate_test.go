package catalog_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/tokens"
)

func TestEstimate(t *testing.T) {
	t.Parallel()
	c := small()
	c.Models["large"].ContextWindow = 8000
	require.NoError(t, c.Validate())
	for name, row := range map[string]struct {
		model, request string
		bound          int
	}{
		"max_tokens":                      {"mini", `{"messages":[],"max_tokens":50}`, 50},
		"the name that the model has":     {"larger", `{"messages":[],"max_completion_tokens":60}`, 60},
		"the name that another model has": {"mini", `{"messages":[],"max_completion_tokens":60}`, 60},
		"the larger of two":               {"mini", `{"messages":[],"max_tokens":70,"max_completion_tokens":60}`, 70},
		"several answers":                 {"mini", `{"messages":[],"max_tokens":50,"n":3}`, 150},
		"an exponent":                     {"mini", `{"messages":[],"max_tokens":50,"n":1e1}`, 500},
		"no answers":                      {"mini", `{"messages":[],"max_tokens":50,"n":0}`, 50},
		"null answers":                    {"mini", `{"messages":[],"max_tokens":50,"n":null}`, 50},
		"a text for a number":             {"mini", `{"messages":[],"max_tokens":50,"n":"3"}`, 50},
		"huge numbers":                    {"mini", `{"messages":[],"max_tokens":9e18,"n":9e99}`, 1 << 40},
		"a negative number":               {"mini", `{"messages":[],"max_tokens":-5}`, 1024},
		"no bound, a window":              {"large", `{"messages":[]}`, 7900},
		"no bound, no window":             {"mini", `{"messages":[],"n":2}`, 2048},
		"no model of the catalog":         {"unknown", `{"messages":[]}`, 1024},
		"no request":                      {"mini", `[]`, 1024},
	} {
		job := tasks.Job{Kind: tasks.KindChat, Request: json.RawMessage(row.request)}
		estimate := c.Estimate(row.model, job, 100)
		assert.Equal(t, catalog.Estimate{Prompt: 100, Bound: row.bound}, estimate, name)
		assert.Equal(t, 100+row.bound, estimate.Tokens(), name)
	}
}

func TestEstimateOfAPreparedJob(t *testing.T) {
	t.Parallel()
	c := valid(t)
	for _, asked := range []tasks.Job{
		{TaskType: "summary", Input: "A text."},
		{Model: tasks.Models{"large"}, Input: "A text."},
		{Model: tasks.Models{"large"}, Request: json.RawMessage(`{"messages":[{"role":"user","content":"A text."}]}`)},
	} {
		prepared, err := c.Prepare(asked, accepted)
		require.NoError(t, err)
		want := catalog.Estimate{Prompt: tokens.Prompt(tasks.KindChat, prepared.Job.Request), Bound: 1024}
		assert.Equal(t, want, c.Estimate("large", prepared.Job, prepared.PromptTokens), "with or without a task type")
		assert.Equal(t, want, c.Estimate("large", prepared.Job, 0), "counted here, of a record without the count")
		// 4 dollars for a million tokens in, 10 out.
		assert.InDelta(t, (float64(want.Prompt)*4+1024*10)/1e6, c.Cost("large", want.Usage()), 1e-12)
	}

	prepared, err := c.Prepare(tasks.Job{Model: tasks.Models{"embed"}, Request: json.RawMessage(`{"input":[1,2,3]}`)}, accepted)
	require.NoError(t, err)
	assert.Equal(t, catalog.Estimate{Prompt: 3}, c.Estimate("embed", prepared.Job, prepared.PromptTokens))
}
