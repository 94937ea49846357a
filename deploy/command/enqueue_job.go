package command

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
)

// buildJob makes the job that the flags describe. What it asks for is checked by the way in.
func buildJob(cmd *cobra.Command, flags enqueueFlags, now time.Time) (tasks.Job, error) {
	job, err := readContent(cmd, flags)
	if err != nil {
		return tasks.Job{}, err
	}
	for _, field := range []struct {
		flag string
		into *string
	}{
		{flags.taskType, &job.TaskType},
		{flags.id, &job.ID},
		{flags.profile, &job.Profile},
		{flags.tier, &job.Tier},
		{flags.tenant, &job.Tenant},
		{flags.replyStream, &job.ReplyStream},
	} {
		*field.into = cmp.Or(field.flag, *field.into)
	}
	job.Priority = cmp.Or(tasks.Priority(flags.priority), job.Priority)
	job.Kind = cmp.Or(tasks.Kind(flags.kind), job.Kind)
	job.Retention = cmp.Or(tasks.Duration(flags.retention), job.Retention)
	if len(flags.models) > 0 {
		job.Model = flags.models
	}
	if cmd.Flags().Changed("max-retries") {
		job.MaxRetries = &flags.maxRetries
	}
	if cmd.Flags().Changed("max-cost") {
		if err := tasks.CheckMaxCost(flags.maxCost); err != nil {
			return tasks.Job{}, refuseUsage(cmd, "--max-cost %s", err.Problem)
		}
		job.MaxCostUSD = &flags.maxCost
	}
	if err := errors.Join(setTime(cmd, &job.RunAt, "run-at", flags.runAt, now), setTime(cmd, &job.Deadline, "deadline", flags.deadline, now)); err != nil {
		return tasks.Job{}, err
	}
	if job.Webhook, err = withWebhook(cmd, job.Webhook, flags.webhook, flags.webhookSecret); err != nil {
		return tasks.Job{}, err
	}
	for _, pair := range flags.metadata {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			return tasks.Job{}, refuseUsage(cmd, "--metadata must be key=value, got %q", pair)
		}
		if job.Metadata == nil {
			job.Metadata = map[string]string{}
		}
		job.Metadata[key] = value
	}
	encoded, err := tasks.Encode(job)
	if err != nil {
		return tasks.Job{}, fmt.Errorf("the job cannot be written as JSON: %w", err)
	}
	if len(encoded) > tasks.MaxJobBytes {
		return tasks.Job{}, fmt.Errorf("the job has %d bytes as JSON; at most %d are accepted, so divide what it asks for", len(encoded), tasks.MaxJobBytes)
	}
	return job, nil
}

// withWebhook is a webhook whose fields the flags --webhook and --webhook-secret replace.
func withWebhook(cmd *cobra.Command, given *tasks.Webhook, url, secret string) (*tasks.Webhook, error) {
	if url == "" && secret == "" {
		return given, nil
	}
	if url == "" && given == nil {
		return nil, refuseUsage(cmd, "--webhook-secret belongs to --webhook")
	}
	webhook := tasks.Webhook{}
	if given != nil {
		webhook = *given
	}
	webhook.URL, webhook.Secret = cmp.Or(url, webhook.URL), cmp.Or(secret, webhook.Secret)
	return &webhook, nil
}

// readContent reads what the job asks for from the one place that was given.
func readContent(cmd *cobra.Command, flags enqueueFlags) (tasks.Job, error) {
	given := 0
	for _, name := range []string{"input", "request", "job"} {
		if cmd.Flags().Changed(name) {
			given++
		}
	}
	if flags.file != "" {
		given++
	}
	if given != 1 {
		return tasks.Job{}, refuseUsage(cmd, "give what the job asks for, once: --file, --input, --request, --job, or - for the standard input")
	}
	switch {
	case flags.request != "":
		body, err := readContentFile(cmd, flags.request)
		if err == nil {
			err = checkJSON(flags.request, body)
		}
		return tasks.Job{Request: body}, err
	case flags.job != "":
		text, err := readContentFile(cmd, flags.job)
		if err != nil {
			return tasks.Job{}, err
		}
		job, err := tasks.DecodeJob(text)
		if err != nil {
			return tasks.Job{}, fmt.Errorf("%s: %w", contentName(flags.job), err)
		}
		return job, nil
	case flags.file != "":
		text, err := readContentFile(cmd, flags.file)
		return tasks.Job{Input: string(text)}, err
	}
	return tasks.Job{Input: flags.input}, nil
}

func contentName(path string) string {
	if path == "-" {
		return "the standard input"
	}
	return path
}

// readContentFile reads a file, or the standard input for "-", of at most tasks.MaxJobBytes.
func readContentFile(cmd *cobra.Command, path string) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		defer func() { _ = file.Close() }() // it is only read
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, tasks.MaxJobBytes+1))
	switch {
	case err != nil:
		return nil, unreadable(path, err)
	case len(data) > tasks.MaxJobBytes:
		return nil, fmt.Errorf("%s is larger than the %d bytes that a job may have; divide it", contentName(path), tasks.MaxJobBytes)
	case len(strings.TrimSpace(string(data))) == 0:
		return nil, fmt.Errorf("%s is empty; there is nothing to ask for", contentName(path))
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		return nil, fmt.Errorf("%s is not text in UTF-8; convert it first, for example with `iconv -f UTF-16 -t UTF-8`", contentName(path))
	}
	return bytes.TrimPrefix(data, []byte("\uFEFF")), nil
}

// checkJSON says at which byte a file ceases to be JSON.
func checkJSON(path string, data []byte) error {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		return fmt.Errorf("%s is not JSON at byte %d: %w; write the body of the call there, such as {\"messages\": [...]}",
			contentName(path), syntax.Offset, syntax)
	}
	return nil
}

func unreadable(path string, err error) error {
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%s cannot be read: %w; name a file that is there, or - for the standard input", contentName(path), err)
}

// setTime reads a time, or a duration from now.
func setTime(cmd *cobra.Command, into **time.Time, flag, text string, now time.Time) error {
	if text == "" {
		return nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		*into = &at
		return nil
	}
	if in, err := time.ParseDuration(text); err == nil {
		*into = new(now.Add(in))
		return nil
	}
	return refuseUsage(cmd, "--%s must be a time such as 2026-12-31T08:00:00Z or a duration such as 90m, got %q", flag, text)
}
