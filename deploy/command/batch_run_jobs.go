package command

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// jobOfText makes jobs of texts: of the task type's prompt, or of one's own.
func jobOfText(cmd *cobra.Command, flags batchRunFlags, c *catalog.Catalog) (func(string) tasks.Job, error) {
	template := tasks.Job{TaskType: flags.taskType, Model: flags.models, Profile: flags.profile, Tier: flags.tier}
	if flags.asks() {
		// What the flags name wrongly is wrong for every line.
		probe := template
		probe.Input = "x"
		if _, err := c.Prepare(probe, time.Now()); err != nil {
			return nil, refuseUsage(cmd, "--type, --tier, --profile or --model: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
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
