package command

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestCost(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	path := simulatedFile(t)
	run := func(args ...string) outcomeOf {
		t.Helper()
		return inProcess(t, "", append(args, "--redis", "redis://"+server.Addr(), "--config", path)...)
	}
	file, err := config.Load(path)
	require.NoError(t, err)
	budget := gate.NewBudget(client, keyspace.New(""), file.Catalog.Budget)
	const dollar = 1_000_000_000
	hold := func(token string) gate.Hold {
		answer, err := budget.Hold(gate.HoldRequest{Token: token, Job: "j", Tenant: "acme", Amount: 3 * dollar, Lease: time.Minute})
		require.NoError(t, err)
		return *answer.Hold
	}
	for i, call := range []gate.CallCost{
		{TaskType: "fast_summary", Model: "gemini-2.5-flash", Endpoint: "simulated-apac", Tenant: "acme", Nanos: dollar, Usage: tasks.Usage{PromptTokens: 1_000_000, CompletionTokens: 300_000}},
		{Model: "gpt-4.1", Endpoint: "gone", Tenant: "acme", Nanos: 2 * dollar, MaybeBilled: true},
		{Model: "deepseek-embedding", Endpoint: "simulated-apac", Tenant: "other", Usage: tasks.Usage{PromptTokens: 1_000_000}},
	} {
		_, err := budget.Settle(gate.Settlement{Hold: hold(fmt.Sprint("t.", i)), Call: &call})
		require.NoError(t, err)
	}
	hold("out.1")

	var reply costReply
	got := run("cost", "--json", "--days", "2")
	require.Equal(t, exitOK, got.status, got.stderr)
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &reply))
	today := time.Now().UTC().Format(time.DateOnly)
	assert.Equal(t, today, reply.To)
	assert.Equal(t, time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly), reply.From)
	require.Len(t, reply.Rows, 3)
	assert.Equal(t, costRow{Name: "gpt-4.1", Calls: 1, MaybeBilled: 1, CostUSD: 2, MaybeUSD: 2, CostCNY: 2 * 7.3}, reply.Rows[0])
	assert.Equal(t, costRow{
		Name: "gemini-2.5-flash", Calls: 1, PromptTokens: 1_000_000, CompletionTokens: 300_000, CostUSD: 1, CostCNY: 7.3,
		DearestUSD: 7.5 + 0.3*75,
	}, reply.Rows[1])
	assert.InDelta(t, 0.02, reply.Rows[2].DearestUSD, 1e-9, "embeddings are compared with embeddings")
	assert.EqualValues(t, 3, reply.Total.Calls)
	assert.Equal(t, []string{"claude-opus-4", "text-embedding-3-small"}, reply.Dearest)
	require.Len(t, reply.Budget, 1)
	assert.Equal(t, scopeStatus{
		Scope: "all", Day: today, LimitUSD: new(100.0), SpentUSD: 3, HeldUSD: 3, LeftUSD: new(94.0), NextDay: reply.Budget[0].NextDay,
	}, reply.Budget[0])

	for by, names := range map[string]string{
		"day": today, "task-type": "adhoc", "model": "gpt-4.1", "endpoint": "simulated-apac", "tenant": "other",
	} {
		assert.Contains(t, run("cost", "--by", by).stdout, "\n"+names+" ", by)
	}
	text := run("cost").stdout
	assert.Contains(t, text, "all jobs         $100.0000  $3.0000  $3.0000  $94.0000")
	assert.Contains(t, text, "¥7.3000")
	assert.Regexp(t, `\nThe next day begins at \d{4}-\d\d-\d\d 00:00 UTC, in (\d+h)?(\d+m)?\.\n$`, text)
	assert.Contains(t, run("status", "--json").stdout, `"budget":[{"scope":"all"`)
	assert.Contains(t, run("cost", "--day", "2020-02-29").stdout, "2020-02-29 (UTC)\n\nMODEL  CALLS  MAYBE BILLED")

	for _, args := range [][]string{{"--by", "hour"}, {"--days", "0"}, {"--day", "today"}} {
		assert.Equal(t, exitUsage, run(append([]string{"cost"}, args...)...).status, args)
	}
}
