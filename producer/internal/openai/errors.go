package openai

import (
	"errors"
	"net/http"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
)

// The codes that more than one place speaks of.
const (
	CodeModelNotFound = "model_not_found"
	codeInvalidValue  = "invalid_value"
	codeUnsupported   = "unsupported_value"
)

// Error is a call that is refused, in OpenAI's words. As JSON it is OpenAI's envelope:
// {"error":{"message","type","param","code"}}.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is a word that keeps its meaning, Param the field that is wrong, or empty.
	Code, Param string
	// Message says what is wrong and what would be right, for people.
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Body is what stands under "error".
type Body struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// Body returns the error as it stands in an answer.
func (e *Error) Body() Body {
	body := Body{Message: e.Message, Type: TypeOf(e.Status), Code: e.Code}
	if e.Param != "" {
		body.Param = &e.Param
	}
	return body
}

// MarshalJSON writes the envelope.
func (e *Error) MarshalJSON() ([]byte, error) {
	return tasks.Encode(struct {
		Error Body `json:"error"`
	}{e.Body()})
}

// TypeOf is the type that OpenAI's errors have with a status.
func TypeOf(status int) string {
	switch {
	case status >= http.StatusInternalServerError:
		return "server_error"
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	}
	return "invalid_request_error"
}

// Refusal says in OpenAI's words why a job that was made of a call is refused by the contract or the catalog; nil for an
// error that is about something else. The fields that it names are those of the call.
func Refusal(err error) *Error {
	var known *Error
	var field *tasks.FieldError
	switch {
	case errors.As(err, &known):
		return known
	case !errors.As(err, &field):
		return nil
	}
	param := strings.TrimPrefix(field.Field, "request.")
	switch param {
	case "task_type", "tier", "profile", "kind":
		param = paramModel
	case "request":
		param = ""
	}
	refusal := &Error{Status: http.StatusBadRequest, Code: codeInvalidValue, Param: param, Message: field.Problem}
	if param != "" {
		refusal.Message = param + ": " + field.Problem
	}
	return refusal
}
