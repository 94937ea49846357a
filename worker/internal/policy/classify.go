package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// The causes with which a worker ends the context of a call. Whose context it is: the worker's own, never asynq's.
var (
	ErrCallTimeout = errors.New("the call took longer than the endpoint's timeout")
	ErrCancelled   = errors.New("the job was cancelled")
	ErrDeadline    = errors.New("the job's deadline passed")
	ErrAbandoned   = errors.New("the worker shut down")
)

// Outcome is what one attempt came to. Class is empty when the answer is good.
type Outcome struct {
	Class   tasks.Class
	Code    string
	Message string
	// Detail is what the provider said, which may quote the request.
	Detail string
	// Refusal is the provider's whole body, where it is an API's error that the job's user is to mend.
	Refusal []byte
	// RetryAfter is the wait that the provider asked for; 0 if it named none.
	RetryAfter time.Duration
	// RateLimit is what the provider said of its limits, with whatever answer.
	RateLimit RateLimit
	// MaybeBilled tells that the call may have been received and its price is not known.
	MaybeBilled bool

	// Text and Usage are those of a good answer. Usage is nil when the provider counted nothing.
	Text  string
	Usage *tasks.Usage
}

// Failure says the outcome for people: what happened and where.
func (o Outcome) Failure(model, endpoint string) *tasks.Failure {
	return &tasks.Failure{
		Class: o.Class, Code: o.Code, Hint: hints[o.Class], Detail: o.Detail,
		Message: fmt.Sprintf("%s at endpoint %s: %s", model, endpoint, o.Message),
	}
}

// hints say what to do about a failure; classes whose own words say it all have none.
//
//exhaustive:ignore
var hints = map[tasks.Class]string{
	tasks.ClassInvalid:       "correct the request and enqueue it under a new id",
	tasks.ClassAuth:          "check the account's API key with `forebay config check`",
	tasks.ClassQuota:         "top up the account or add another",
	tasks.ClassNotServed:     "list the models that the endpoint serves under its `models` in the configuration",
	tasks.ClassMisconfigured: "check the endpoint's url and proxy in the configuration",
	tasks.ClassContextLength: "shorten the input, or name a model with a larger window",
	tasks.ClassContentPolicy: "the provider withheld the answer; change the request, or set content_policy_fallback on its task type",
	tasks.ClassThrottled:     "nothing to do: the job waits for the provider's limit",
	tasks.ClassUnavailable:   "while retries are left the job is repeated by itself; `forebay status` shows how the endpoints are",
	tasks.ClassInternal:      "see the worker's log; the job can be enqueued again",
}

// Classify gives an answer its class: by the code in its body, by its HTTP status, by the transport's error, in this
// order. It is the only place that reads any of them, and the headers that speak of limits.
func Classify(kind tasks.Kind, answer provider.Answer) Outcome {
	now := time.Now()
	outcome, body, malformed := classifyFailure(answer)
	if outcome.Class == "" {
		outcome = readAnswer(kind, body, malformed)
	}
	outcome.RateLimit = rateLimit(answer.Header, now)
	if outcome.Class == tasks.ClassThrottled || outcome.Class == tasks.ClassUnavailable {
		outcome.RetryAfter = retryAfter(answer.Header, outcome.RateLimit, now)
	}
	return outcome
}

// ClassifyModels gives the answer to a health probe, which asks for the list of models, its class.
func ClassifyModels(answer provider.Answer) Outcome {
	failure, _, malformed := classifyFailure(answer)
	switch {
	case failure.Class != "":
		return failure
	case malformed != nil || answer.Status != http.StatusOK:
		return unusable("malformed_answer", "the answer is not the JSON of a list of models")
	}
	return Outcome{}
}

// classifyFailure finds what an answer says of itself, whatever was asked: its Class is empty when it says nothing
// bad. Malformed is the error of decoding its body.
func classifyFailure(answer provider.Answer) (failure Outcome, body answerBody, malformed error) {
	if class, ended := causes[cause(answer.Err)]; ended {
		return Outcome{
			Class: class.class, Code: class.code, Message: cause(answer.Err).Error(), MaybeBilled: answer.Sent,
		}, body, nil
	}
	if answer.Status == 0 || (answer.Err != nil && answer.Status < http.StatusMultipleChoices) {
		return transport(answer), body, nil
	}
	malformed = json.Unmarshal(answer.Body, &body) // which leaves what it could read
	reported, isError := readError(body)
	if isError {
		if class := reported.class(); class != "" {
			return failed(class, reported, answer), body, malformed
		}
	}
	if class := statusClass(answer.Status, isError && !reported.Framework, looksLikePage(answer)); class != "" {
		return failed(class, reported, answer), body, malformed
	}
	if isError {
		return failed(tasks.ClassUnavailable, reported, answer), body, malformed
	}
	return Outcome{}, body, malformed
}

type causeClass struct {
	class tasks.Class
	code  string
}

var causes = map[error]causeClass{
	ErrCallTimeout: {tasks.ClassUnavailable, "timeout"},
	ErrCancelled:   {tasks.ClassCancelled, "cancelled"},
	ErrDeadline:    {tasks.ClassExpired, "deadline_passed"},
	ErrAbandoned:   {tasks.ClassAbandoned, "shutdown"},
}

// cause finds the worker's own reason in a transport error.
func cause(err error) error {
	for known := range causes {
		if errors.Is(err, known) {
			return known
		}
	}
	return nil
}

func transport(answer provider.Answer) Outcome {
	outcome := Outcome{Class: tasks.ClassUnavailable, Code: "connection_failed", MaybeBilled: answer.Sent}
	switch {
	case errors.Is(answer.Err, provider.ErrBodyTooLarge):
		outcome.Code = "answer_too_large"
	case answer.Status != 0:
		outcome.Code = "truncated_answer"
	case errors.Is(answer.Err, context.DeadlineExceeded), errors.Is(answer.Err, context.Canceled):
		outcome.Code = "timeout"
	case answer.Sent:
		outcome.Code = "connection_lost"
	}
	outcome.Message = "no answer"
	if answer.Err != nil {
		outcome.Message = answer.Err.Error()
	}
	return outcome
}

func failed(class tasks.Class, reported reportedError, answer provider.Answer) Outcome {
	outcome := Outcome{
		Class: class, Code: reported.name(), Message: fmt.Sprintf("HTTP %d", answer.Status), Detail: shorten(reported.Message),
	}
	if outcome.Code == "" {
		outcome.Code = fmt.Sprintf("http_%d", answer.Status)
	}
	users := class == tasks.ClassInvalid || class == tasks.ClassContextLength || class == tasks.ClassContentPolicy
	if users && answer.Status >= http.StatusBadRequest && json.Valid(answer.Body) {
		outcome.Refusal = answer.Body
	}
	switch answer.Status {
	case http.StatusOK, http.StatusRequestTimeout, http.StatusGatewayTimeout, statusTimedOutAtEdge:
		// The model may have worked although its answer did not come through.
		outcome.MaybeBilled = true
	}
	return outcome
}

// statusTimedOutAtEdge is Cloudflare's for an origin that did not answer in time.
const statusTimedOutAtEdge = 524

// statusClass is the class of an HTTP status, "" for a good one. A body that is no API error tells that the address
// is not that of an API at all.
func statusClass(status int, isError, page bool) tasks.Class {
	switch {
	case status >= 500:
		return tasks.ClassUnavailable
	case status == http.StatusTooManyRequests:
		return tasks.ClassThrottled
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly:
		return tasks.ClassUnavailable
	case status == http.StatusRequestEntityTooLarge:
		return tasks.ClassContextLength
	case status >= 300 && status < 400, page:
		return tasks.ClassMisconfigured
	case status < 300:
		return ""
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return tasks.ClassAuth
	case http.StatusPaymentRequired:
		return tasks.ClassQuota
	case http.StatusNotFound:
		if isError {
			return tasks.ClassNotServed
		}
		return tasks.ClassMisconfigured
	case http.StatusMethodNotAllowed, http.StatusGone:
		return tasks.ClassMisconfigured
	}
	return tasks.ClassInvalid
}

// looksLikePage tells a page for people from an answer of an API.
func looksLikePage(answer provider.Answer) bool {
	start := bytes.TrimSpace(answer.Body[:min(len(answer.Body), 64)])
	if len(start) > 0 && start[0] == '{' {
		return false
	}
	return bytes.HasPrefix(start, []byte("<")) ||
		strings.HasPrefix(strings.ToLower(answer.Header.Get("Content-Type")), "text/html")
}

// shorten keeps a provider's message to a line. Providers quote requests, sometimes in whole.
func shorten(message string) string {
	const most = 200
	message = strings.Join(strings.Fields(strings.ToValidUTF8(message, "?")), " ")
	if runes := []rune(message); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return message
}
