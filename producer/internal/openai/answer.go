package openai

import (
	"encoding/json"
	"net/http"

	"github.com/forebay-queue/forebay/tasks"
)

// Answer is how the end of a job is answered.
type Answer struct {
	Status int
	// Body is the provider's own, byte for byte, or an Error's.
	Body json.RawMessage
}

// AnswerOf says the end of a job as OpenAI would have answered the call: the provider's body where it succeeded, or where
// the provider refused the request; an Error otherwise. Nothing of how the deployment is made is repeated.
func AnswerOf(result tasks.Result) Answer {
	if result.Status == tasks.StatusSucceeded {
		return Answer{http.StatusOK, result.Response}
	}
	failure := result.Error
	if failure == nil {
		failure = &tasks.Failure{Class: tasks.ClassInternal}
	}
	said := failures[failure.Class]
	if said.Status == 0 {
		said = failures[tasks.ClassInternal]
	}
	if said.theirs {
		if status, own := provided(result); own {
			return Answer{status, result.Response}
		}
		if failure.Code != "" {
			said.Code = failure.Code
		}
		switch {
		case failure.Detail != "":
			said.Message = failure.Detail
		case len(result.Attempts) == 0: // Forebay's own words
			said.Message = failure.Message
		}
	}
	if failure.Class == tasks.ClassDeferred && failure.Code != "budget_exhausted" {
		said = failures[tasks.ClassUnavailable]
	}
	said.Message += " (job " + result.ID + ")"
	body, _ := said.MarshalJSON() // strings always encode
	return Answer{said.Status, body}
}

// provided tells that a job has the provider's own error, and with which status it came.
func provided(result tasks.Result) (status int, own bool) {
	var body struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(result.Response, &body) != nil || body.Error.Message == "" {
		return 0, false
	}
	status = http.StatusBadRequest
	if n := len(result.Attempts); n > 0 && result.Attempts[n-1].HTTPStatus/100 == 4 {
		status = result.Attempts[n-1].HTTPStatus
	}
	return status, true
}

// said is an Error, and whether it is for the one who asked to mend: then the provider's words are passed on.
type said struct {
	Error
	theirs bool
}

const ours = "The deployment's log says why."

var failures = map[tasks.Class]said{
	tasks.ClassInvalid:       {Error{Status: http.StatusBadRequest, Code: "invalid_request", Message: "The request was refused."}, true},
	tasks.ClassContextLength: {Error{Status: http.StatusBadRequest, Code: "context_length_exceeded", Param: "messages", Message: "The request is longer than the model's window."}, true},
	tasks.ClassContentPolicy: {Error{Status: http.StatusBadRequest, Code: "content_filter", Message: "The provider's policy withheld the answer."}, true},
	tasks.ClassNotServed:     {Error{Status: http.StatusNotFound, Code: CodeModelNotFound, Param: paramModel, Message: "No provider serves the model now."}, false},
	tasks.ClassAuth:          {Error{Status: http.StatusBadGateway, Code: "provider_unavailable", Message: "No provider could be used. " + ours}, false},
	tasks.ClassQuota:         {Error{Status: http.StatusBadGateway, Code: "provider_unavailable", Message: "No provider could be used. " + ours}, false},
	tasks.ClassMisconfigured: {Error{Status: http.StatusBadGateway, Code: "provider_unavailable", Message: "No provider could be used. " + ours}, false},
	tasks.ClassThrottled:     {Error{Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded", Message: "The provider's limits let nothing through."}, false},
	tasks.ClassUnavailable:   {Error{Status: http.StatusServiceUnavailable, Code: "provider_unavailable", Message: "No provider gave an answer, and all retries are spent."}, false},
	tasks.ClassRejected:      {Error{Status: http.StatusBadGateway, Code: "answer_rejected", Message: "No model gave an answer that is accepted."}, false},
	tasks.ClassDeferred:      {Error{Status: http.StatusTooManyRequests, Code: "insufficient_quota", Message: "The budget is exhausted."}, false},
	tasks.ClassCancelled:     {Error{Status: http.StatusConflict, Code: "cancelled", Message: "The job was cancelled before an answer came."}, false},
	tasks.ClassExpired:       {Error{Status: http.StatusGatewayTimeout, Code: "deadline_passed", Message: "No answer came before the deadline."}, false},
	tasks.ClassAbandoned:     {Error{Status: http.StatusServiceUnavailable, Code: "provider_unavailable", Message: "The call was cut off."}, false},
	tasks.ClassInternal:      {Error{Status: http.StatusInternalServerError, Code: "internal", Message: "Something is wrong inside. " + ours}, false},
}
