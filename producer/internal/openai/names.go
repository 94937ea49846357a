package openai

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// What stands before the names of tiers and profiles.
const (
	tierMark    = "tier:"
	profileMark = "profile:"
)

// The sorts of names, as a Model's OwnedBy tells them.
const (
	ownedModel    = "model"
	ownedTaskType = "task_type"
	ownedTier     = "tier"
	ownedProfile  = "profile"
)

// Model is a name that a call may have as its model: OpenAI's object.
type Model struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	// Created is always 0: a catalog does not know since when its models are.
	Created int64 `json:"created"`
	// OwnedBy is the sort of the name: model, task_type, tier or profile.
	OwnedBy string `json:"owned_by"`
}

// Models lists the names: models, task types, tiers, profiles. What no endpoint serves is left out.
func Models(c *catalog.Catalog) []Model {
	var list []Model
	add := func(owned, mark string, names []string) {
		for _, name := range names {
			if job, found := resolve(mark+name, c); found && servedAtAll(job, c) && sortOf(job) == owned {
				list = append(list, Model{ID: mark + name, Object: "model", OwnedBy: owned})
			}
		}
	}
	tiers := make([]string, len(c.Tiers))
	for i, tier := range c.Tiers {
		tiers[i] = tier.Name
	}
	add(ownedModel, "", sortedNames(c.Models))
	add(ownedTaskType, "", sortedNames(c.TaskTypes))
	add(ownedTier, tierMark, tiers) // from the cheapest to the dearest
	add(ownedProfile, profileMark, sortedNames(c.Profiles))
	return list
}

func sortedNames[T any](named map[string]T) []string {
	names := make([]string, 0, len(named))
	for name := range named {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Find finds one of the names. An unknown one is an *Error, model_not_found.
func Find(name string, c *catalog.Catalog) (Model, error) {
	if job, found := resolve(name, c); found && servedAtAll(job, c) {
		return Model{ID: name, Object: "model", OwnedBy: sortOf(job)}, nil
	}
	return Model{}, errNoModel(name)
}

func errNoModel(name string) *Error {
	return &Error{
		Status: http.StatusNotFound, Code: CodeModelNotFound, Param: paramModel,
		Message: fmt.Sprintf("The model %.100q does not exist here; GET /v1/models lists the names that do.", name),
	}
}

// resolve finds what a name means.
func resolve(name string, c *catalog.Catalog) (tasks.Job, bool) {
	if c.Models[name] != nil {
		return tasks.Job{Model: tasks.Models{name}}, true
	}
	if c.TaskTypes[name] != nil {
		return tasks.Job{TaskType: name}, true
	}
	if tier, marked := strings.CutPrefix(name, tierMark); marked {
		return tasks.Job{Tier: tier}, slices.ContainsFunc(c.Tiers, func(t catalog.Tier) bool { return t.Name == tier })
	}
	if profile, marked := strings.CutPrefix(name, profileMark); marked {
		return tasks.Job{Profile: profile}, c.Profiles[profile] != nil
	}
	return tasks.Job{}, false
}

func sortOf(job tasks.Job) string {
	switch {
	case len(job.Model) > 0:
		return ownedModel
	case job.TaskType != "":
		return ownedTaskType
	case job.Tier != "":
		return ownedTier
	}
	return ownedProfile
}

// served tells whether an endpoint serves one of the models that a job of the kind may have.
func served(job tasks.Job, kind tasks.Kind, c *catalog.Catalog) bool {
	job.Kind = kind
	return slices.ContainsFunc(c.ModelsFor(job), func(model string) bool { return len(c.EndpointsFor(model)) > 0 })
}

func servedAtAll(job tasks.Job, c *catalog.Catalog) bool {
	return served(job, tasks.KindChat, c) || served(job, tasks.KindEmbedding, c)
}

// checkKind refuses a name that has no model of the endpoint's kind.
func checkKind(name string, job tasks.Job, c *catalog.Catalog) error {
	if served(job, job.Kind, c) {
		return nil
	}
	other := endpoint{kind: tasks.KindEmbedding, path: Embeddings}
	if job.Kind == tasks.KindEmbedding {
		other = endpoint{kind: tasks.KindChat, path: ChatCompletions}
	}
	if !served(job, other.kind, c) {
		return errNoModel(name)
	}
	return &Error{
		Status: http.StatusBadRequest, Code: codeUnsupported, Param: paramModel,
		Message: fmt.Sprintf("The %s %q is for %s, not for %s; call %s, or name another model.",
			strings.ReplaceAll(sortOf(job), "_", " "), name, plural(other.kind), plural(job.Kind), other.path),
	}
}

func plural(kind tasks.Kind) string {
	return cmp.Or(map[tasks.Kind]string{tasks.KindChat: "chat completions", tasks.KindEmbedding: "embeddings"}[kind], string(kind))
}
