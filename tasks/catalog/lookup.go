package catalog

import (
	"cmp"
	"maps"
	"slices"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/targets"
)

// index holds what the lookups answer. It is built by Validate and only read afterwards.
type index struct {
	endpoints map[string][]*Endpoint // by model, in order
	tierOf    map[string]string      // by model
	tiers     map[string][]string    // by tier
	plans     map[string][]string    // by task type: the models of its jobs
	defaults  map[string][]field     // by task type; "" is a chat job without one
	bounds    []string               // the request's fields that bound an answer
	guard     *targets.Guard         // where webhooks may go
}

func (c *Catalog) buildIndex() {
	c.index = index{
		guard:     c.index.guard,
		endpoints: make(map[string][]*Endpoint, len(c.Models)),
		tierOf:    make(map[string]string, len(c.Models)),
		tiers:     make(map[string][]string, len(c.Tiers)),
		plans:     make(map[string][]string, len(c.TaskTypes)),
		defaults:  make(map[string][]field, len(c.TaskTypes)+1),
		bounds:    []string{"max_tokens", "max_completion_tokens"},
	}
	for model := range c.Models {
		c.index.endpoints[model] = c.serving(model)
	}
	for _, tier := range c.Tiers {
		c.index.tiers[tier.Name] = tier.Models
		for _, model := range tier.Models {
			if _, taken := c.index.tierOf[model]; !taken {
				c.index.tierOf[model] = tier.Name
			}
		}
	}
	for name, taskType := range c.TaskTypes {
		c.index.plans[name] = c.plan(taskType)
		c.index.defaults[name] = encodeFields(taskType.Defaults)
	}
	c.index.defaults[""] = encodeFields(withChatDefaults(nil))
	for _, model := range c.Models {
		if model.Kind == tasks.KindChat && !slices.Contains(c.index.bounds, model.MaxTokensField) {
			c.index.bounds = append(c.index.bounds, model.MaxTokensField)
		}
	}
	slices.Sort(c.index.bounds)
}

func (c *Catalog) serving(model string) []*Endpoint {
	var serving []*Endpoint
	for _, endpoint := range c.Endpoints {
		if endpoint.serves(model) {
			serving = append(serving, endpoint)
		}
	}
	slices.SortFunc(serving, func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
	})
	return serving
}

func (e *Endpoint) serves(model string) bool {
	_, named := e.Models[model]
	return named || len(e.Models) == 0
}

// plan orders the models of a task type: its own, the rest of that one's tier, the fallback tier.
func (c *Catalog) plan(taskType *TaskType) []string {
	candidates := []string{taskType.Model}
	candidates = append(candidates, c.index.tiers[c.index.tierOf[taskType.Model]]...)
	candidates = append(candidates, c.index.tiers[cmp.Or(taskType.FallbackTier, c.FallbackTier)]...)
	return c.choose(candidates, taskType.Kind, taskType)
}

// choose takes each candidate of the kind once, and only the first for an embedding that must keep to its model.
func (c *Catalog) choose(candidates []string, kind tasks.Kind, taskType *TaskType) []string {
	chosen := make([]string, 0, len(candidates))
	for _, name := range candidates {
		if model := c.Models[name]; model != nil && model.Kind == kind && !slices.Contains(chosen, name) {
			chosen = append(chosen, name)
		}
	}
	if kind == tasks.KindEmbedding && len(chosen) > 1 && (taskType == nil || !taskType.AllowModelChange) {
		chosen = chosen[:1]
	}
	return slices.Clip(chosen)
}

// ModelsFor lists the models that may do a prepared job, in the order in which they are tried: those the job names,
// else its profile's, else its tier's, else its task type's (the task type's own, the rest of that model's tier, the
// fallback tier). All are of the job's kind; an embedding job has one model only, unless its task type has
// AllowModelChange. The list is empty when the catalog no longer knows what the job names; it must not be changed.
func (c *Catalog) ModelsFor(job tasks.Job) []string {
	taskType := c.TaskTypes[job.TaskType]
	switch {
	case len(job.Model) > 0:
		return c.choose(job.Model, job.Kind, taskType)
	case job.Profile != "":
		return c.choose(c.Profiles[job.Profile], job.Kind, taskType)
	case job.Tier != "":
		return c.choose(c.index.tiers[job.Tier], job.Kind, taskType)
	case taskType != nil && taskType.Kind == job.Kind:
		return c.index.plans[job.TaskType]
	}
	return nil
}

// EndpointsFor lists the endpoints that serve a model, by priority and name. The list must not be changed.
func (c *Catalog) EndpointsFor(model string) []*Endpoint { return c.index.endpoints[model] }

// TierOf is the tier that a model belongs to: the first that lists it. Empty when none does.
func (c *Catalog) TierOf(model string) string { return c.index.tierOf[model] }

// UpstreamName is the name that an endpoint gives a model of the catalog.
func (c *Catalog) UpstreamName(endpoint *Endpoint, model string) string {
	if name, named := endpoint.Models[model]; named {
		return name
	}
	return model
}

// Cost is what an answer of the model costs in US dollars by the catalog's prices; 0 for a model that it does not
// know.
func (c *Catalog) Cost(model string, usage tasks.Usage) float64 {
	if m := c.Models[model]; m != nil {
		return m.cost(usage)
	}
	return 0
}

func (m *Model) cost(usage tasks.Usage) float64 {
	const perPrice = 1e6
	input := usage.PromptTokens
	if m.Kind == tasks.KindEmbedding && input == 0 {
		input = usage.TotalTokens // some servers count only the total
	}
	var dollars float64
	if m.Input != nil {
		dollars += float64(input) * *m.Input / perPrice
	}
	if m.Output != nil {
		dollars += float64(usage.CompletionTokens) * *m.Output / perPrice
	}
	return dollars
}

// DearestModels are the dearest models of each kind, for a prompt and an answer of the same length.
func (c *Catalog) DearestModels() []string {
	var models []string
	for _, kind := range []tasks.Kind{tasks.KindChat, tasks.KindEmbedding} {
		if model, _ := c.DearestCost(kind, tasks.Usage{PromptTokens: 1, CompletionTokens: 1}); model != "" {
			models = append(models, model)
		}
	}
	return models
}

// DearestCost is what the same usage would have cost, in US dollars, with the dearest model of its kind, and which
// that is. Empty when the catalog has no model of the kind.
func (c *Catalog) DearestCost(kind tasks.Kind, usage tasks.Usage) (string, float64) {
	dearest, most := "", -1.0
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		if model := c.Models[name]; model.Kind == kind && model.cost(usage) > most {
			dearest, most = name, model.cost(usage)
		}
	}
	return dearest, max(most, 0)
}
