package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	idPattern    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	replyPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// The limits of a job's fields.
const (
	maxMetadata      = 16
	maxMetadataKey   = 64
	maxMetadataValue = 512
	maxMaxRetries    = 1000
	maxModels        = 16
	maxMaxCostUSD    = 1_000_000
	minRetention     = time.Second
	maxRetention     = 366 * 24 * time.Hour
	retentionRange   = "must be 1s to 8784h"
)

// ValidName reports whether name can be that of an endpoint, account, tenant, tier or task type.
func ValidName(name string) bool { return namePattern.MatchString(name) }

// ValidID reports whether id can be a job's.
func ValidID(id string) bool { return idPattern.MatchString(id) }

// Validate checks everything about the job that needs no catalog. It joins all it finds: each problem is a
// *FieldError and wraps ErrInvalidJob.
func (j *Job) Validate() error {
	var problems []error
	refuse := func(field, format string, args ...any) {
		problems = append(problems, &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)})
	}
	if j.V != 0 && j.V != Version {
		refuse("v", "this build speaks version %d of the contract, the job says %d", Version, j.V)
	}
	if j.ID != "" && !ValidID(j.ID) {
		refuse("id", "must be 1 to 128 characters of A-Z a-z 0-9 _ -")
	}
	if j.TaskType == "" && j.Tier == "" && j.Profile == "" && len(j.Model) == 0 {
		refuse("task_type", "is missing; name a task type, or a tier, profile or model")
	}
	for field, name := range map[string]string{"task_type": j.TaskType, "tier": j.Tier, "profile": j.Profile, "tenant": j.Tenant} {
		if name != "" && !ValidName(name) {
			refuse(field, "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
		}
	}
	if j.Model != nil && len(j.Model) == 0 || len(j.Model) > maxModels || slices.Contains(j.Model, "") {
		refuse("model", "must be one model or a list of 1 to %d models", maxModels)
	} else if twice, found := repeated(j.Model); found {
		refuse("model", "lists %q twice; each is tried as often as its endpoints say", twice)
	}
	switch j.Priority {
	case "", PriorityCritical, PriorityDefault, PriorityBulk:
	default:
		refuse("priority", "must be critical, default or bulk")
	}
	switch j.Kind {
	case "", KindChat, KindEmbedding:
	default:
		refuse("kind", "must be chat or embedding")
	}
	if j.MaxRetries != nil && (*j.MaxRetries < 0 || *j.MaxRetries > maxMaxRetries) {
		refuse("max_retries", "must be 0 to %d, got %d", maxMaxRetries, *j.MaxRetries)
	}
	if j.MaxCostUSD != nil {
		if err := CheckMaxCost(*j.MaxCostUSD); err != nil {
			problems = append(problems, err)
		}
	}
	if retention := time.Duration(j.Retention); retention != 0 && (retention < minRetention || retention > maxRetention) {
		refuse("retention", "%s, got %s", retentionRange, retention)
	}
	if j.Deadline != nil && j.RunAt != nil && !j.Deadline.After(*j.RunAt) {
		refuse("deadline", "must be after run_at")
	}
	if j.Webhook != nil {
		problems = append(problems, j.Webhook.Validate(JobEvents())...)
	}
	if j.ReplyStream != "" && !replyPattern.MatchString(j.ReplyStream) {
		refuse("reply_stream", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
	}
	problems = append(problems, j.validateContent()...)
	problems = append(problems, j.validateMetadata()...)
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

// CheckMaxCost says what is wrong with a job's max_cost_usd; nil when nothing is.
func CheckMaxCost(usd float64) *FieldError {
	if usd > 0 && usd <= maxMaxCostUSD {
		return nil
	}
	return &FieldError{Field: "max_cost_usd", Problem: fmt.Sprintf(
		"must be more than 0 and at most %d US dollars, got %g; leave it out for no limit", maxMaxCostUSD, usd)}
}

// repeated finds a model that is listed before.
func repeated(models Models) (string, bool) {
	for i, model := range models {
		if slices.Contains(models[:i], model) {
			return model, true
		}
	}
	return "", false
}

func (j *Job) validateContent() []error {
	switch {
	case len(j.Input)+len(j.Request) > MaxJobBytes:
		field := "request"
		if j.Input != "" {
			field = "input"
		}
		return []error{&FieldError{Field: field, Problem: fmt.Sprintf("has %d bytes; at most %d are accepted", len(j.Input)+len(j.Request), MaxJobBytes)}}
	case j.Input == "" && len(j.Request) == 0:
		return []error{&FieldError{Field: "input", Problem: "is missing or empty; give a text as input or the body of the call as request"}}
	case j.Input != "" && len(j.Request) > 0:
		return []error{&FieldError{Field: "input", Problem: "stands beside request; give exactly one of them"}}
	case j.Input != "" && strings.TrimSpace(j.Input) == "":
		return []error{&FieldError{Field: "input", Problem: "is white space only; there is nothing to ask for"}}
	case j.Input != "":
		if !utf8.ValidString(j.Input) {
			return []error{&FieldError{Field: "input", Problem: "is not valid UTF-8"}}
		}
		return nil
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(j.Request, &body); err != nil || body == nil {
		return []error{&FieldError{Field: "request", Problem: "must be a JSON object: the body of the call without its model"}}
	}
	if !utf8.Valid(j.Request) {
		return []error{&FieldError{Field: "request", Problem: "is not valid UTF-8"}}
	}
	walk := scan{data: j.Request}
	if problem := walk.check(); problem != nil {
		problem.Field, problem.Byte = joined("request", problem.Field), 0 // not of the job's text
		return []error{problem}
	}
	var problems []error
	if stream, found := body["stream"]; found && string(bytes.TrimSpace(stream)) != "false" {
		problems = append(problems, &FieldError{Field: "request.stream", Problem: "a queued job cannot stream; leave it out"})
	}
	if _, found := body["model"]; found {
		problems = append(problems, &FieldError{Field: "request.model", Problem: "name the model in the job's own field `model`"})
	}
	return problems
}

func (j *Job) validateMetadata() []error {
	var problems []error
	if len(j.Metadata) > maxMetadata {
		problems = append(problems, &FieldError{Field: "metadata", Problem: fmt.Sprintf("has %d pairs; at most %d are accepted", len(j.Metadata), maxMetadata)})
	}
	for _, key := range slices.Sorted(maps.Keys(j.Metadata)) {
		if key == "" || utf8.RuneCountInString(key) > maxMetadataKey || utf8.RuneCountInString(j.Metadata[key]) > maxMetadataValue {
			problems = append(problems, &FieldError{Field: "metadata", Problem: fmt.Sprintf("keys have 1 to %d characters and values at most %d", maxMetadataKey, maxMetadataValue)})
			break
		}
	}
	return problems
}
