package filerun

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

func quoteCatalog(t *testing.T) *catalog.Catalog {
	t.Helper()
	file, err := config.Parse("quote.yaml", []byte(`
accounts: {a: {limits: {requests_per_minute: 60, tokens_per_minute: 3000}}}
endpoints:
  one: {account: a, url: "http://127.0.0.1:9/v1", priority: 1, auth: none, limits: {requests_per_minute: 1}}
  two: {account: a, url: "http://127.0.0.1:9/v1", priority: 2, auth: none}
models: {m: {output: 10, input: 1}}
tiers: [{name: low, models: [m]}]
task_types: {s: {model: m, prompt: "{{input}}", defaults: {max_tokens: 400}}}
`))
	require.NoError(t, err)
	return &file.Catalog
}

func TestQuotes(t *testing.T) {
	t.Parallel()
	c := quoteCatalog(t)
	q, err := QuoteOf(itemsOf("a text", "", "another text"), c, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, []int{2, 0, 1}, []int{q.Jobs, q.Answered, q.Refused})
	assert.Equal(t, []string{"line 2: " + assert.AnError.Error()}, q.Problems)
	require.Len(t, q.Models, 1)
	assert.Equal(t, "low", q.Models[0].Tier)
	assert.EqualValues(t, 2*100, q.OutputTokens, "a quarter of the bound")
	assert.Contains(t, q.Models[0].Assumptions[0], "a quarter of their bound")
	prompt := float64(q.PromptTokens)
	assert.InDelta(t, (prompt+200*10)/1e6, q.CostUSD, 1e-9)
	assert.InDelta(t, (prompt+800*10)/1e6, q.WorstUSD, 1e-9)
	assert.InDelta(t, (prompt+800)/3000*60, q.LimitSeconds, 1e-9, "tokens on arrival are the tightest limit that all endpoints share")
	assert.Equal(t, "3000 tokens a minute of account a", q.Limit)

	past := Past{{"s", "m"}: {Calls: fewestPast, OutputTokens: fewestPast * 30}}
	q, err = QuoteOf(itemsOf("a text"), c, nil, past)
	require.NoError(t, err)
	assert.EqualValues(t, 30, q.OutputTokens)
	assert.Contains(t, q.Models[0].Assumptions[0], "the mean of 20 calls of s")
	past[PastKey{"s", "m"}] = struct{ Calls, OutputTokens int64 }{fewestPast - 1, 1}
	q, err = QuoteOf(itemsOf("a text"), c, nil, past)
	require.NoError(t, err)
	assert.EqualValues(t, 100, q.OutputTokens, "too few calls say nothing")
}

// Endpoints that have limits of their own let through what they do together.
func TestQuotesAddLimitsUp(t *testing.T) {
	t.Parallel()
	c := quoteCatalog(t)
	c.Accounts["a"].Limits = catalog.Limits{}
	c.Endpoints["two"].Limits.RequestsPerMinute = 3
	q, err := QuoteOf(itemsOf("a", "b", "c", "d", "e", "f", "g", "h"), c, nil, nil)
	require.NoError(t, err)
	assert.InDelta(t, 120, q.LimitSeconds, 1e-9)
	assert.Equal(t, "4 requests a minute of all endpoints of m", q.Limit)
	c.Endpoints["two"].Limits = catalog.Limits{}
	q, err = QuoteOf(itemsOf("a"), c, nil, nil)
	require.NoError(t, err)
	assert.Empty(t, q.Limit, "one of them lets everything through")
}

// What was answered before is not paid for again, as often as it was.
func TestQuotesKnowTheJournal(t *testing.T) {
	t.Parallel()
	j, err := OpenJournal(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	planTexts(t, j, "a", "b")
	require.NoError(t, j.ended(map[int]tasks.Result{0: {Status: tasks.StatusSucceeded}}))
	q, err := QuoteOf(itemsOf("a", "a", "b"), quoteCatalog(t), j, nil)
	require.NoError(t, err)
	assert.Equal(t, []int{2, 1}, []int{q.Jobs, q.Answered})
}
