package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// The endpoints whose calls become jobs.
const (
	ChatCompletions = "/v1/chat/completions"
	Embeddings      = "/v1/embeddings"
)

type endpoint struct {
	path string
	kind tasks.Kind
}

var endpoints = []endpoint{{ChatCompletions, tasks.KindChat}, {Embeddings, tasks.KindEmbedding}}

// The fields of a call that are no part of a job's request.
const (
	paramModel         = "model"
	paramStream        = "stream"
	paramStreamOptions = "stream_options"
)

// Call is a call as a job, and how it is to be answered.
type Call struct {
	// Job has what the call asks for: Kind, Request and one of Model, TaskType, Tier and Profile.
	Job tasks.Job
	// Stream tells that the answer is to be sent as server-sent events, IncludeUsage that their last is to have the usage.
	Stream, IncludeUsage bool
}

// JobOf reads the body of a call that cannot stream, as in a batch. Its errors are *Error.
func JobOf(path string, body json.RawMessage, c *catalog.Catalog) (tasks.Job, error) {
	call, err := Read(path, body, c)
	if err != nil {
		return tasks.Job{}, err
	}
	if call.Stream {
		return tasks.Job{}, &Error{
			Status: http.StatusBadRequest, Code: codeUnsupported, Param: paramStream,
			Message: "stream: a batch does not stream; leave it out",
		}
	}
	return call.Job, nil
}

// Read reads the body of a call of one of the endpoints. The request of its job is the body without model, stream and
// stream_options, the rest of it byte for byte. Its errors are *Error. What only the contract refuses, it leaves to the
// way in: see Refusal.
func Read(path string, body json.RawMessage, c *catalog.Catalog) (Call, error) {
	for _, known := range endpoints {
		if known.path == path {
			return read(known, body, c)
		}
	}
	return Call{}, &Error{
		Status: http.StatusBadRequest, Code: codeUnsupported, Param: "endpoint",
		Message: fmt.Sprintf("endpoint: %.100q is not served; %s and %s are", path, ChatCompletions, Embeddings),
	}
}

func read(at endpoint, body json.RawMessage, c *catalog.Catalog) (Call, error) {
	fields, request, err := cut(body)
	if err != nil {
		return Call{}, err
	}
	var name string
	switch value, given := fields[paramModel]; {
	case !given:
		return Call{}, &Error{
			Status: http.StatusBadRequest, Code: "missing_required_parameter", Param: paramModel,
			Message: "model: is missing; GET /v1/models lists the names that there are",
		}
	case value[0] != '"' || json.Unmarshal(value, &name) != nil:
		return Call{}, mistyped(paramModel, "a string")
	}
	job, found := resolve(name, c)
	if !found {
		return Call{}, errNoModel(name)
	}
	job.Kind, job.Request = at.kind, request
	if err := checkKind(name, job, c); err != nil {
		return Call{}, err
	}
	call := Call{Job: job}
	return call, call.readStream(at, fields)
}

// readStream reads how the call is to be answered.
func (c *Call) readStream(at endpoint, fields map[string]json.RawMessage) error {
	if value, given := fields[paramStream]; given && !isNull(value) && json.Unmarshal(value, &c.Stream) != nil {
		return mistyped(paramStream, "true or false")
	}
	if c.Stream && at.kind == tasks.KindEmbedding {
		return &Error{
			Status: http.StatusBadRequest, Code: codeUnsupported, Param: paramStream,
			Message: "stream: embeddings are not streamed; leave it out",
		}
	}
	value, given := fields[paramStreamOptions]
	if !given || isNull(value) {
		return nil
	}
	if !c.Stream {
		return &Error{
			Status: http.StatusBadRequest, Code: codeInvalidValue, Param: paramStreamOptions,
			Message: "stream_options: is only allowed where stream is true",
		}
	}
	var options struct {
		IncludeUsage bool `json:"include_usage"`
	}
	if json.Unmarshal(value, &options) != nil {
		return mistyped(paramStreamOptions, "an object; its include_usage is true or false")
	}
	c.IncludeUsage = options.IncludeUsage
	return nil
}

func isNull(value json.RawMessage) bool { return string(value) == "null" }

func mistyped(param, want string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "invalid_type", Param: param, Message: param + ": must be " + want}
}

func unreadable(format string, args ...any) *Error {
	return &Error{
		Status: http.StatusBadRequest, Code: "invalid_json",
		Message: "The body of the call cannot be read: " + fmt.Sprintf(format, args...) + ".",
	}
}

// cut takes the fields that are no part of a job's request out of a body. What is left of it stays as it is.
func cut(body []byte) (fields map[string]json.RawMessage, request json.RawMessage, err error) {
	if !utf8.Valid(body) {
		return nil, nil, unreadable("it is not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, nil, unreadable("it is not JSON at byte %d: %s", syntax.Offset, syntax)
		}
		return nil, nil, unreadable("it is not JSON")
	}
	if whole = bytes.TrimSpace(whole); whole[0] != '{' {
		return nil, nil, unreadable("it is no JSON object")
	}
	fields = map[string]json.RawMessage{}
	request = append(make(json.RawMessage, 0, len(whole)), '{')
	decoder := json.NewDecoder(bytes.NewReader(whole))
	_, _ = decoder.Token() // the brace; all of it is known to be JSON
	for decoder.More() {
		before := decoder.InputOffset()
		token, err := decoder.Token()
		var value json.RawMessage
		if err = errors.Join(err, decoder.Decode(&value)); err != nil {
			return nil, nil, unreadable("it is not JSON") // half of a surrogate pair, or a huge nesting
		}
		name, _ := token.(string)
		switch name {
		case paramModel, paramStream, paramStreamOptions:
			if _, twice := fields[name]; twice {
				return nil, nil, &Error{Status: http.StatusBadRequest, Code: codeInvalidValue, Param: name, Message: name + ": is given twice; give it once"}
			}
			fields[name] = value
			continue
		}
		if len(request) > 1 {
			request = append(request, ',')
		}
		request = append(request, bytes.TrimLeft(whole[before:decoder.InputOffset()], ", \t\r\n")...)
	}
	return fields, append(request, '}'), nil
}
