package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
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
	// Byte is the place in the job's text, counted from 1; 0 where it is not known.
	Byte int
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
	"accept": true, "cache": true,
}

// DecodeJob reads one job as a user writes it. What encoding/json would pass over is refused by name: fields that this
// build does not know, also those of a newer contract, names in another case, fields that are given twice, and
// whatever stands behind the job. The names of all objects inside are looked at, too, since the request is passed on
// as it stands, and half surrogates, which others would replace. The job is not validated yet: see Job.Validate.
func DecodeJob(data []byte) (Job, error) {
	if len(data) > MaxJobBytes {
		return Job{}, &FieldError{Problem: fmt.Sprintf("the job has %d bytes; at most %d are accepted", len(data), MaxJobBytes)}
	}
	if !utf8.Valid(data) {
		at := invalidUTF8At(data) + 1
		return Job{}, &FieldError{Problem: fmt.Sprintf("not valid UTF-8 at byte %d", at), Byte: at}
	}
	if bytes.HasPrefix(data, byteOrderMark) {
		return Job{}, &FieldError{Problem: "begins with a byte order mark (EF BB BF); send UTF-8 without one", Byte: 1}
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	var whole json.RawMessage
	if err := decoder.Decode(&whole); err != nil {
		return Job{}, syntaxError(err, data)
	}
	end := int(decoder.InputOffset())
	if rest := bytes.TrimLeft(data[end:], " \t\r\n"); len(rest) > 0 {
		at := len(data) - len(rest) + 1
		return Job{}, &FieldError{Problem: fmt.Sprintf("something follows the job at byte %d; send one JSON object", at), Byte: at}
	}
	start := end - len(whole)
	if kind := jsonKind(whole); kind != "object" {
		return Job{}, &FieldError{Problem: "a job must be a JSON object, not " + article(kind), Byte: start + 1}
	}
	walk := scan{data: whole, base: start, places: map[string]int{}}
	if problem := walk.check(); problem != nil {
		return Job{}, problem
	}
	job, err := decodeFields(whole)
	if field := (*FieldError)(nil); errors.As(err, &field) && field.Byte == 0 {
		field.Byte = walk.places[field.Field]
	}
	return job, err
}

// byteOrderMark is what some programs of Windows put before UTF-8. It is no part of JSON (RFC 8259, section 8.1).
var byteOrderMark = []byte("\xef\xbb\xbf")

// decodeFields reads the fields of an object that is known to be JSON.
func decodeFields(object []byte) (Job, error) {
	var job Job
	fields := fieldsOf(&job)
	decoder := json.NewDecoder(bytes.NewReader(object))
	_, err := decoder.Token() // the brace
	for err == nil && decoder.More() {
		var name json.Token
		if name, err = decoder.Token(); err != nil {
			break
		}
		var value json.RawMessage
		if err = decoder.Decode(&value); err != nil {
			break
		}
		if err := decodeField(fields, fmt.Sprint(name), value); err != nil {
			return Job{}, err
		}
	}
	if err != nil {
		return Job{}, syntaxError(err, object)
	}
	return job, nil
}

// decodeField reads one field into its place in the job.
func decodeField(fields map[string]any, name string, value []byte) error {
	field, known := fields[name]
	if !known {
		return unknownField(fields, name)
	}
	if err := json.Unmarshal(value, field); err != nil {
		if problem := (*FieldError)(nil); errors.As(err, &problem) {
			return problem
		}
		return mistyped(name, field, value)
	}
	if retention, ok := field.(*Duration); ok && *retention == 0 && jsonKind(value) != "null" {
		return &FieldError{Field: name, Problem: retentionRange + ", got 0s; leave it out for the default"}
	}
	return nil
}

// fieldsOf returns where each field of a job is read into, by its name in JSON.
func fieldsOf(job *Job) map[string]any {
	fields := map[string]any{}
	value := reflect.ValueOf(job).Elem()
	for field, at := range value.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields[name] = at.Addr().Interface()
	}
	return fields
}

// longestName is how much of the name of an unknown field an error repeats.
const longestName = 64

func unknownField(fields map[string]any, name string) error {
	shown := shortened(name)
	for comes := range later {
		if strings.EqualFold(name, comes) {
			return &FieldError{Field: shown, Problem: fmt.Sprintf("`%s` is not available yet; leave it out", comes)}
		}
	}
	for known := range fields {
		if strings.EqualFold(name, known) {
			return &FieldError{Field: shown, Problem: fmt.Sprintf("unknown field; did you mean %s?", known)}
		}
	}
	return &FieldError{Field: shown, Problem: "unknown field; see docs/jobs.md for the fields of a job"}
}

// shortened is a name that may be as long as a job.
func shortened(name string) string {
	if len(name) <= longestName {
		return name
	}
	if runes := []rune(name[:min(len(name), 4*longestName+4)]); len(runes) > longestName {
		return string(runes[:longestName]) + "..."
	}
	return name
}

// mistyped says what a field must be, and what it is where that is of another kind. It repeats nothing of the value.
func mistyped(name string, field any, value []byte) error {
	want, kind := "a string", "string"
	switch field.(type) {
	case *int, **int:
		want, kind = "a whole number", "number"
	case **float64:
		want, kind = "a number", "number"
	case *Duration:
		want = `a duration in quotes, such as "90s" or "24h"`
	case **time.Time:
		want = `a time in quotes, such as "2026-12-31T08:00:00Z" (RFC 3339)`
	case *Models:
		want, kind = "a model's name or a list of them", "array"
	case *map[string]string:
		want, kind = "an object whose values are strings", "object"
	}
	problem := "must be " + want
	if is := jsonKind(value); is != kind {
		problem += ", not " + article(is)
	} else if is == "number" && tooLarge(value) {
		problem += "; this one is too large"
	}
	return &FieldError{Field: name, Problem: problem}
}

// tooLarge tells of a number that no field of a job can hold.
func tooLarge(number []byte) bool {
	value, err := strconv.ParseFloat(string(bytes.TrimSpace(number)), 64)
	return err != nil || math.Abs(value) >= math.MaxInt64
}

// DecodeRecord reads a job from its record. A worker keeps and ignores the fields of a contract newer than its own.
func DecodeRecord(data []byte) (Job, error) {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return Job{}, fmt.Errorf("decode the job's record: %w", syntaxError(err, data))
	}
	return job, nil
}

// syntaxError says where a text ceases to be JSON.
func syntaxError(err error, data []byte) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF):
		return &FieldError{Problem: "is empty; send one JSON object"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &FieldError{Problem: fmt.Sprintf("not JSON: it ends at byte %d, in the middle", len(data)), Byte: len(data)}
	case errors.As(err, &syntax):
		return &FieldError{Problem: fmt.Sprintf("not JSON at byte %d: %s", syntax.Offset, syntax.Error()), Byte: int(syntax.Offset)}
	}
	return &FieldError{Problem: "cannot be read as JSON: " + err.Error()}
}

// jsonKind names what a JSON value is.
func jsonKind(value []byte) string {
	value = bytes.TrimLeft(value, " \t\r\n")
	switch {
	case len(value) == 0:
		return "nothing"
	case value[0] == '{':
		return "object"
	case value[0] == '[':
		return "array"
	case value[0] == '"':
		return "string"
	case value[0] == 't', value[0] == 'f':
		return "boolean"
	case value[0] == 'n':
		return "null"
	}
	return "number"
}

func article(noun string) string {
	if noun == "null" {
		return noun
	}
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
