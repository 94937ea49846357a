package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// jobOfText makes jobs of texts: of the task type's prompt, or of one's own.
func jobOfText(cmd *cobra.Command, flags batchRunFlags, c *catalog.Catalog) (func(string) tasks.Job, error) {
	template := tasks.Job{TaskType: flags.taskType, Model: flags.models, Profile: flags.profile, Tier: flags.tier}
	if flags.promptFile == "" {
		return func(text string) tasks.Job {
			job := template
			job.Input = text
			return job
		}, nil
	}
	prompt, err := readContentFile(cmd, flags.promptFile)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(prompt, []byte("{{input}}")) {
		return nil, fmt.Errorf("%s has no {{input}}, which the text takes the place of", flags.promptFile)
	}
	var system string
	kind := tasks.KindChat
	if taskType := c.TaskTypes[flags.taskType]; taskType != nil {
		system, kind = taskType.System, taskType.Kind
	}
	return func(text string) tasks.Job {
		job := template
		rendered := strings.ReplaceAll(string(prompt), "{{input}}", text)
		var body any = map[string]string{"input": rendered}
		if kind == tasks.KindChat {
			messages := []map[string]string{{"role": "user", "content": rendered}}
			if system != "" {
				messages = append([]map[string]string{{"role": "system", "content": system}}, messages...)
			}
			body = map[string]any{"messages": messages}
		}
		job.Request, _ = tasks.Encode(body) // texts are always JSON
		return job
	}, nil
}

// kindsOfCalls are the URLs that lines of OpenAI's Batch API may have.
var kindsOfCalls = map[string]tasks.Kind{"/v1/chat/completions": tasks.KindChat, "/v1/embeddings": tasks.KindEmbedding}

// jobOfCall makes jobs of calls to OpenAI's API. Their model is one of the catalog, a task type, `tier:NAME` or
// `profile:NAME`, the first of these that there is.
func jobOfCall(c *catalog.Catalog) func(url string, body json.RawMessage) (tasks.Job, error) {
	return func(url string, body json.RawMessage) (tasks.Job, error) {
		kind, known := kindsOfCalls[url]
		if !known {
			return tasks.Job{}, fmt.Errorf("url: %.60q cannot be run in a batch; /v1/chat/completions and /v1/embeddings can", url)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil {
			return tasks.Job{}, fmt.Errorf("body: must be an object: %w", err)
		}
		var name string
		if json.Unmarshal(fields["model"], &name) != nil || name == "" {
			return tasks.Job{}, fmt.Errorf("body.model is missing, or no string")
		}
		delete(fields, "model")
		request, err := tasks.Encode(fields)
		if err != nil {
			return tasks.Job{}, err
		}
		job := modelNamed(c, name)
		if job.Request = request; job.TaskType == "" {
			job.Kind = kind
		} else if c.TaskTypes[job.TaskType].Kind != kind {
			return job, fmt.Errorf("body.model: the task type %s is of kind %s, and the url of %s", name, c.TaskTypes[name].Kind, kind)
		}
		if err := job.Validate(); err != nil {
			return job, fmt.Errorf("body: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return job, nil
	}
}

func modelNamed(c *catalog.Catalog, name string) tasks.Job {
	if c.Models[name] == nil {
		if c.TaskTypes[name] != nil {
			return tasks.Job{TaskType: name}
		}
		if tier, found := strings.CutPrefix(name, "tier:"); found {
			return tasks.Job{Tier: tier}
		}
		if profile, found := strings.CutPrefix(name, "profile:"); found {
			return tasks.Job{Profile: profile}
		}
	}
	return tasks.Job{Model: tasks.Models{name}}
}
