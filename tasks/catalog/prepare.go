package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/forebay-queue/forebay/tasks"
)

// Prepared is a job as its record keeps it; it converts to a jobstore.NewJob.
type Prepared struct {
	Job tasks.Job
	// Fingerprint is that of the job as it was asked for.
	Fingerprint string
	// PromptTokens is the estimate of the request's tokens before its answer, see tokens.Prompt.
	PromptTokens int
}

// Prepare does with a job what every way in does: it checks it against the contract and the catalog, fills in its
// defaults, its id and its times, renders its input into the request, and counts the request's tokens. What it returns
// is what the job's record keeps. now is when the job was accepted.
//
// The errors are *tasks.FieldError, joined, and wrap tasks.ErrInvalidJob. The job handed in is not changed.
func (c *Catalog) Prepare(job tasks.Job, now time.Time) (Prepared, error) {
	if err := job.Validate(); err != nil {
		return Prepared{}, err
	}
	if job.Tenant == "" {
		job.Tenant = DefaultTenant
	}
	fingerprint, err := tasks.Fingerprint(job)
	if err != nil {
		return Prepared{}, fmt.Errorf("fingerprint the job: %w", err)
	}
	if err := c.checkNames(job); err != nil {
		return Prepared{}, err
	}
	if job.Kind, err = c.kindOf(job); err != nil {
		return Prepared{}, err
	}
	problems := errors.Join(c.checkModels(job), c.checkWebhook(job.Tenant, job.Webhook), c.setTimes(&job, now))
	count, err := c.render(&job)
	if err := errors.Join(problems, err); err != nil {
		return Prepared{}, err
	}
	if job.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return Prepared{}, fmt.Errorf("make an id for the job: %w", err)
		}
		job.ID = id.String()
	}
	job.V = tasks.Version
	fill(&job.Priority, tasks.PriorityDefault)
	return Prepared{job, fingerprint, count}, nil
}

func refuse(field, format string, args ...any) error {
	return &tasks.FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

func sortedNames[T any](named map[string]T) []string { return slices.Sorted(maps.Keys(named)) }

// checkNames checks that the catalog knows all that the job names, also what another field goes before.
func (c *Catalog) checkNames(job tasks.Job) error {
	var problems []error
	if name := job.TaskType; name != "" && c.TaskTypes[name] == nil {
		problems = append(problems, refuse("task_type", "%s", unknown("task type", name, sortedNames(c.TaskTypes))))
	}
	if name := job.Profile; name != "" && c.Profiles[name] == nil {
		problems = append(problems, refuse("profile", "%s", unknown("profile", name, sortedNames(c.Profiles))))
	}
	if name := job.Tier; name != "" && c.index.tiers[name] == nil {
		tiers := make([]string, len(c.Tiers))
		for i, tier := range c.Tiers {
			tiers[i] = tier.Name
		}
		problems = append(problems, refuse("tier", "%s", unknown("tier", name, tiers)))
	}
	for _, name := range job.Model {
		if c.Models[name] == nil {
			problems = append(problems, refuse("model", "%s", unknown("model", name, sortedNames(c.Models))))
		} else if len(c.index.endpoints[name]) == 0 {
			problems = append(problems, refuse("model", "no endpoint of the catalog serves %q", name))
		}
	}
	return errors.Join(problems...)
}

// asked is the field that picks the job's models, and the models.
func (c *Catalog) asked(job tasks.Job) (field string, models []string) {
	switch {
	case len(job.Model) > 0:
		return "model", job.Model
	case job.Profile != "":
		return "profile", c.Profiles[job.Profile]
	case job.Tier != "":
		return "tier", c.index.tiers[job.Tier]
	}
	return "task_type", c.index.plans[job.TaskType]
}

// kindOf finds what sort of call the job makes: as it says, as its task type does, as all its models do, or as its
// request is shaped.
func (c *Catalog) kindOf(job tasks.Job) (tasks.Kind, error) {
	if taskType := c.TaskTypes[job.TaskType]; taskType != nil {
		if job.Kind != "" && job.Kind != taskType.Kind {
			return "", refuse("kind", "the task type %s is of kind %s, the job says %s; leave kind out or name another task type", taskType.Name, taskType.Kind, job.Kind)
		}
		return taskType.Kind, nil
	}
	if job.Kind != "" {
		return job.Kind, nil
	}
	field, models := c.asked(job)
	kinds := map[tasks.Kind]bool{}
	for _, model := range models {
		kinds[c.Models[model].Kind] = true
	}
	if len(kinds) == 1 {
		return c.Models[models[0]].Kind, nil
	}
	if field != "model" && len(job.Request) > 0 {
		var shape struct {
			Messages json.RawMessage `json:"messages"`
			Input    json.RawMessage `json:"input"`
		}
		if json.Unmarshal(job.Request, &shape) == nil && (shape.Messages == nil) != (shape.Input == nil) {
			if shape.Messages != nil {
				return tasks.KindChat, nil
			}
			return tasks.KindEmbedding, nil
		}
	}
	if field == "model" {
		return "", refuse("model", "lists chat and embedding models together; list models of one kind")
	}
	return "", refuse("kind", "is missing: the %s has chat and embedding models; say kind chat or embedding", field)
}

// checkModels checks that the models asked for are of the job's kind. A list of models must be so as a whole; of a
// profile or tier, those of the kind are taken.
func (c *Catalog) checkModels(job tasks.Job) error {
	field, models := c.asked(job)
	var others []string
	for _, model := range models {
		if c.Models[model].Kind != job.Kind {
			others = append(others, model)
		}
	}
	switch {
	case len(others) == 0, field != "model" && len(others) < len(models):
		return nil
	case field == "model":
		return refuse("model", "the job is of kind %s, but not so %s; name %s models", job.Kind, strings.Join(others, ", "), job.Kind)
	}
	return refuse(field, "has no model of kind %s, which the job is", job.Kind)
}

// setTimes fills in when the job was accepted and ends at the latest, how often it is repeated and how long kept.
func (c *Catalog) setTimes(job *tasks.Job, now time.Time) error {
	now = now.UTC().Round(0) // without the monotonic clock, which no record keeps
	job.CreatedAt = &now
	deadline := now.Add(c.Defaults.MaxAge)
	if job.Deadline != nil {
		deadline = job.Deadline.UTC()
	}
	if !deadline.After(now) {
		return refuse("deadline", "%s is in the past; leave it out for %s from now", deadline.Format(time.RFC3339), FormatDuration(c.Defaults.MaxAge))
	}
	if job.RunAt != nil && !deadline.After(*job.RunAt) {
		return refuse("deadline", "must be after run_at; without one it is %s from now", FormatDuration(c.Defaults.MaxAge))
	}
	job.Deadline = &deadline
	if job.RunAt != nil {
		job.RunAt = new(job.RunAt.UTC())
	}

	retries, retention := *c.Defaults.MaxRetries, c.Defaults.Retention
	if taskType := c.TaskTypes[job.TaskType]; taskType != nil {
		if taskType.MaxRetries != nil {
			retries = *taskType.MaxRetries
		}
		if taskType.Retention != nil {
			retention = *taskType.Retention
		}
	}
	if job.MaxRetries == nil {
		job.MaxRetries = &retries
	}
	fill(&job.Retention, tasks.Duration(retention))
	return nil
}
