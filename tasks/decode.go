package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxJobBytes is the size of the largest job that is accepted, as JSON.
const MaxJobBytes = 8 << 20

// ErrInvalidJob is wrapped by every error that says why a job is refused at the way in.
var ErrInvalidJob = errors.New("invalid job")

// FieldError says what is wrong with one field of a job.
type FieldError struct {
	// Field is the field's name in JSON, or empty for the whole job.
	Field string
	// Problem says what is wrong and what would be right.
	Problem string
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// Unwrap makes every FieldError an ErrInvalidJob.
func (e *FieldError) Unwrap() error { return ErrInvalidJob }

// later are the fields of the design that this build does not act on: they are refused by name, never ignored.
var later = map[string]bool{
	"accept": true, "cache": true, "max_cost_usd": true, "reply_stream": true, "webhook": true,
}

// DecodeJob reads one job as a user writes it. Fields that this build does not know are refused by name, also those
// of a newer contract; so is whatever stands behind the job. The job is not validated yet: see Job.Validate.
func DecodeJob(data []byte) (Job, error) {
	if len(data) > MaxJobBytes {
		return Job{}, &FieldError{Problem: fmt.Sprintf("the job has %d bytes; at most %d are accepted", len(data), MaxJobBytes)}
	}
	if !utf8.Valid(data) {
		return Job{}, &FieldError{Problem: fmt.Sprintf("not valid UTF-8 at byte %d", invalidUTF8At(data))}
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var job Job
	if err := decoder.Decode(&job); err != nil {
		return Job{}, decodeError(err, decoder.InputOffset())
	}
	if rest := bytes.TrimSpace(data[decoder.InputOffset():]); len(rest) > 0 {
		return Job{}, &FieldError{Problem: fmt.Sprintf("something follows the job at byte %d; send one JSON object", decoder.InputOffset())}
	}
	return job, nil
}

// DecodeRecord reads a job from its record. A worker keeps and ignores the fields of a contract newer than its own.
func DecodeRecord(data []byte) (Job, error) {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return Job{}, fmt.Errorf("decode the job's record: %w", decodeError(err, 0))
	}
	return job, nil
}

func decodeError(err error, offset int64) error {
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return &FieldError{Problem: fmt.Sprintf("not JSON at byte %d: %s", syntax.Offset, syntax.Error())}
	case errors.As(err, &mistyped) && mistyped.Field == "":
		return &FieldError{Problem: fmt.Sprintf("a job must be a JSON object, not %s", article(mistyped.Value))}
	case errors.As(err, &mistyped):
		return &FieldError{Field: mistyped.Field, Problem: fmt.Sprintf("must be %s, not %s", article(jsonType(mistyped.Type.String())), article(mistyped.Value))}
	}
	if name, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
		name = strings.Trim(name, `"`)
		if later[name] {
			return &FieldError{Field: name, Problem: fmt.Sprintf("`%s` is not available yet; leave it out", name)}
		}
		return &FieldError{Field: name, Problem: "unknown field; see docs/jobs.md for the fields of a job"}
	}
	return &FieldError{Problem: fmt.Sprintf("cannot be read near byte %d: %s", offset, err.Error())}
}

func jsonType(goType string) string {
	switch {
	case strings.HasPrefix(goType, "map["), strings.HasPrefix(goType, "tasks.Job"):
		return "object"
	case strings.Contains(goType, "int"):
		return "whole number"
	default:
		return "string"
	}
}

func article(noun string) string {
	if strings.ContainsAny(noun[:min(1, len(noun))], "aeiou") {
		return "an " + noun
	}
	return "a " + noun
}

func invalidUTF8At(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return len(data)
}
