package policy

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
)

// reportedError is the error in an answer's body, whichever dialect it is in:
//
//	OpenAI   {"error": {"message", "type", "param", "code": "rate_limit_exceeded"}}
//	vLLM     {"error": {"message", "type": "RateLimitError", "code": 429}} or, older, the same without the envelope
//	relays   {"error": {"message", "type": "new_api_error", "code": "insufficient_user_quota"}}
type reportedError struct {
	Message string
	Type    string
	// Code is the code's text; a whole number stands in Number instead.
	Code   string
	Number int
	// Framework tells that a web framework wrote it, such as FastAPI's {"detail": ...}, and not the API itself.
	Framework bool
}

// name is the code by which the failure is known; empty where it does not look like one.
func (r reportedError) name() string {
	for _, name := range []string{r.Code, r.Type} {
		if codePattern.MatchString(name) {
			return name
		}
	}
	return ""
}

// codePattern is what codes look like. Codes are logged; whatever else a provider writes there is not.
var codePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// codes are the classes of the codes and types that providers send. A type as general as invalid_request_error says
// nothing: OpenAI sends it with a refused key too.
var codes = map[string]tasks.Class{
	"invalid_api_key":                tasks.ClassAuth,
	"invalid_authentication":         tasks.ClassAuth,
	"authentication_error":           tasks.ClassAuth,
	"authenticationerror":            tasks.ClassAuth,
	"account_deactivated":            tasks.ClassAuth,
	"invalid_organization":           tasks.ClassAuth,
	"permission_error":               tasks.ClassAuth,
	"permissiondeniederror":          tasks.ClassAuth,
	"insufficient_quota":             tasks.ClassQuota,
	"insufficient_user_quota":        tasks.ClassQuota,
	"insufficient_balance":           tasks.ClassQuota,
	"pre_consume_token_quota_failed": tasks.ClassQuota,
	"billing_hard_limit_reached":     tasks.ClassQuota,
	"billing_not_active":             tasks.ClassQuota,
	"model_not_found":                tasks.ClassNotServed,
	"model_not_available":            tasks.ClassNotServed,
	"deploymentnotfound":             tasks.ClassNotServed,
	"notfounderror":                  tasks.ClassNotServed,
	"context_length_exceeded":        tasks.ClassContextLength,
	"request_too_large":              tasks.ClassContextLength,
	"content_filter":                 tasks.ClassContentPolicy,
	"content_policy_violation":       tasks.ClassContentPolicy,
	"contentpolicyviolationerror":    tasks.ClassContentPolicy,
	"responsibleaipolicyviolation":   tasks.ClassContentPolicy,
	"sensitive_words_detected":       tasks.ClassContentPolicy,
	"rate_limit_exceeded":            tasks.ClassThrottled,
	"rate_limit_error":               tasks.ClassThrottled,
	"ratelimiterror":                 tasks.ClassThrottled,
	"too_many_requests":              tasks.ClassThrottled,
	"server_error":                   tasks.ClassUnavailable,
	"internal_server_error":          tasks.ClassUnavailable,
	"internalservererror":            tasks.ClassUnavailable,
	"service_unavailable":            tasks.ClassUnavailable,
	"serviceunavailableerror":        tasks.ClassUnavailable,
	"overloaded_error":               tasks.ClassUnavailable,
	"timeout_error":                  tasks.ClassUnavailable,
}

// phrases are the classes of messages that come without a code of their own, in lower case.
var phrases = []struct {
	text  string
	class tasks.Class
}{
	{"no available channel", tasks.ClassNotServed}, // one-api, new-api
	{"无可用渠道", tasks.ClassNotServed},                // the same in Chinese
	{"无可用的渠道", tasks.ClassNotServed},
	{"maximum context length", tasks.ClassContextLength}, // vLLM: 400 BadRequestError
}

// class is what the error says by itself; "" leaves it to the HTTP status.
func (r reportedError) class() tasks.Class {
	message := strings.ToLower(r.Message)
	for _, phrase := range phrases {
		if strings.Contains(message, phrase.text) {
			return phrase.class
		}
	}
	if class, known := codes[strings.ToLower(r.Code)]; known {
		return class
	}
	if class, known := codes[strings.ToLower(r.Type)]; known {
		return class
	}
	if r.Number >= http.StatusBadRequest && r.Number < 600 {
		return statusClass(r.Number, true, false)
	}
	return ""
}

// errorFields are where the dialects put an error. They are kept raw: what one of them holds in a good answer is
// not ours to judge.
type errorFields struct {
	Error   json.RawMessage `json:"error"`
	Object  json.RawMessage `json:"object"`
	Message json.RawMessage `json:"message"`
	Type    json.RawMessage `json:"type"`
	Code    json.RawMessage `json:"code"`
	Detail  json.RawMessage `json:"detail"`
}

// readError finds the error in a body; false when the body is none.
func readError(body answerBody) (reportedError, bool) {
	switch {
	case len(body.Error) > 0 && body.Error[0] == '{':
		var inner errorFields
		if json.Unmarshal(body.Error, &inner) != nil {
			return reportedError{Message: "an error that cannot be read"}, true
		}
		return reported(inner), true
	case len(body.Error) > 0 && string(body.Error) != "null":
		return reportedError{Message: text(body.Error)}, true
	case body.Choices != nil || len(body.Data) > 0:
		return reportedError{}, false
	case text(body.Object) == "error", text(body.Message) != "" && len(body.Code) > 0:
		return reported(body.errorFields), true
	case len(body.Detail) > 0:
		return reportedError{Message: text(body.Detail), Framework: true}, true
	}
	return reportedError{}, false
}

func reported(fields errorFields) reportedError {
	result := reportedError{Message: text(fields.Message), Type: text(fields.Type)}
	if json.Unmarshal(fields.Code, &result.Number) != nil {
		result.Code = text(fields.Code)
	}
	return result
}

// text is a JSON string's text, and any other value as it stands.
func text(value json.RawMessage) string {
	if len(value) == 0 || string(value) == "null" {
		return ""
	}
	var plain string
	if json.Unmarshal(value, &plain) == nil {
		return plain
	}
	return string(value)
}
