package catalog_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks"
)

func TestModelsFor(t *testing.T) {
	t.Parallel()
	c := valid(t)
	rows := map[string]struct {
		job  tasks.Job
		want []string
	}{
		"a task type: its model, the rest of its tier, the fallback tier": {
			tasks.Job{TaskType: "summary", Kind: tasks.KindChat},
			[]string{"large", "larger", "mini"},
		},
		"a model of two tiers belongs to the first; a fallback of one's own": {
			tasks.Job{TaskType: "plain", Kind: tasks.KindChat},
			[]string{"mini", "large", "larger"},
		},
		"an embedding keeps to its model":   {tasks.Job{TaskType: "vector", Kind: tasks.KindEmbedding}, []string{"embed"}},
		"unless its task type allows":       {tasks.Job{TaskType: "vector-2", Kind: tasks.KindEmbedding}, []string{"embed", "embed-two"}},
		"the job's models go before":        {tasks.Job{TaskType: "summary", Profile: "best", Model: tasks.Models{"mini", "large", "mini"}, Kind: tasks.KindChat}, []string{"mini", "large"}},
		"then its profile":                  {tasks.Job{Profile: "best", Tier: "low", Kind: tasks.KindChat}, []string{"larger", "large"}},
		"then its tier":                     {tasks.Job{TaskType: "summary", Tier: "low", Kind: tasks.KindChat}, []string{"mini"}},
		"only models of the kind":           {tasks.Job{Profile: "mixed", Kind: tasks.KindChat}, []string{"mini"}},
		"one model of a tier for a vector":  {tasks.Job{Tier: "low", Kind: tasks.KindEmbedding}, []string{"embed-two"}},
		"one of a list for a vector":        {tasks.Job{Model: tasks.Models{"embed", "embed-two"}, Kind: tasks.KindEmbedding}, []string{"embed"}},
		"what the catalog no longer knows":  {tasks.Job{Model: tasks.Models{"gone", "mini"}, Kind: tasks.KindChat}, []string{"mini"}},
		"a task type that is gone":          {tasks.Job{TaskType: "gone", Kind: tasks.KindChat}, nil},
		"a task type that changed its kind": {tasks.Job{TaskType: "vector", Kind: tasks.KindChat}, nil},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, row.want, c.ModelsFor(row.job))
		})
	}
}

func TestEndpointsFor(t *testing.T) {
	t.Parallel()
	c := valid(t)
	names := func(model string) []string {
		var names []string
		for _, endpoint := range c.EndpointsFor(model) {
			names = append(names, endpoint.Name+"="+c.UpstreamName(endpoint, model))
		}
		return names
	}
	assert.Equal(t, []string{"local=org/mini-8b", "relay-a=mini", "relay-b=mini"}, names("mini"))
	assert.Equal(t, []string{"relay-a=large", "relay-b=large"}, names("large"))
	assert.Empty(t, names("gone"))
	assert.Equal(t, "low", c.TierOf("mini"))
	assert.Equal(t, "high", c.TierOf("large"))
	assert.Empty(t, c.TierOf("gone"))
}

func TestOrder(t *testing.T) {
	t.Parallel()
	c := valid(t)
	order := func(model string, behind ...string) []string {
		var names []string
		for _, endpoint := range c.Order(model, func(name string) bool { return slices.Contains(behind, name) }) {
			names = append(names, endpoint.Name)
		}
		return names
	}
	assert.Equal(t, []string{"local", "relay-a", "relay-b"}, order("mini"))
	assert.Equal(t, []string{"relay-a", "relay-b", "local"}, order("mini", "local"))
	assert.Equal(t, []string{"relay-b", "local", "relay-a"}, order("mini", "relay-a", "local"), "those behind keep their order")
	assert.Equal(t, []string{"local", "relay-a", "relay-b"}, order("mini", "relay-b", "relay-a", "local"), "all are behind")
	assert.Equal(t, []string{"local", "relay-a", "relay-b"}, order("mini"), "no list was changed")
	assert.Empty(t, order("gone", "local"))
}

func TestCost(t *testing.T) {
	t.Parallel()
	c := valid(t)
	usage := tasks.Usage{PromptTokens: 1_000_000, CompletionTokens: 500_000, TotalTokens: 1_500_000}
	assert.InDelta(t, 0.2+1, c.Cost("mini", usage), 1e-9)
	assert.InDelta(t, 4+5, c.Cost("large", usage), 1e-9)
	assert.InDelta(t, 0.02, c.Cost("embed", tasks.Usage{PromptTokens: 1_000_000}), 1e-12)
	assert.InDelta(t, 0.02, c.Cost("embed", tasks.Usage{TotalTokens: 1_000_000}), 1e-12)
	assert.Zero(t, c.Cost("gone", usage))

	model, dollars := c.DearestCost(tasks.KindChat, usage)
	assert.Equal(t, "larger", model)
	assert.InDelta(t, 8+40, dollars, 1e-9)
	model, _ = c.DearestCost(tasks.KindEmbedding, usage)
	assert.Equal(t, "embed", model)
	model, dollars = c.DearestCost("image", usage)
	assert.Empty(t, model)
	assert.Zero(t, dollars)
}
