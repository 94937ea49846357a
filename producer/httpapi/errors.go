package httpapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
)

const (
	mediaJSON   = "application/json"
	contentJSON = "application/json; charset=utf-8"
)

// apiError is an error in OpenAI's form.
type apiError struct {
	status  int
	message string
	// param is the part of the request that is wrong, or empty.
	param string
	code  string
	// retryAfter is in seconds; 0 leaves it to the status.
	retryAfter int
}

// errorBody is what stands in an answer under "error".
type errorBody struct {
	Message string  `json:"message" doc:"What happened, where, and what to do, for people"`
	Type    string  `json:"type" enum:"invalid_request_error,authentication_error,permission_error,rate_limit_error,server_error" doc:"Whose fault it is"`
	Param   *string `json:"param" doc:"The field, parameter or header that is wrong; null where there is none"`
	Code    string  `json:"code" doc:"A word that keeps its meaning, for programs"`
}

type errorEnvelope struct {
	Error errorBody `json:"error"`
}

func (e apiError) body() errorBody {
	told := errorBody{Message: e.message, Type: openai.TypeOf(e.status), Code: e.code}
	if e.param != "" {
		told.Param = &e.param
	}
	return told
}

// Error implements error.
func (e *apiError) Error() string { return e.code + ": " + e.message }

// GetStatus implements huma.StatusError.
func (e *apiError) GetStatus() int { return e.status }

// GetHeaders implements huma.HeadersError.
func (e *apiError) GetHeaders() http.Header {
	if e.retryAfter > 0 {
		return http.Header{"Retry-After": {strconv.Itoa(e.retryAfter)}}
	}
	if e.status == http.StatusServiceUnavailable {
		return http.Header{"Retry-After": {"1"}}
	}
	if e.status == http.StatusConflict {
		return http.Header{"X-Should-Retry": {"false"}} // OpenAI's clients would
	}
	return nil
}

// MarshalJSON writes the envelope.
func (e *apiError) MarshalJSON() ([]byte, error) { return tasks.Encode(errorEnvelope{e.body()}) }

// Schema describes the envelope.
func (e *apiError) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[errorEnvelope](), true, "Error")
}

func writeError(w http.ResponseWriter, e apiError) {
	for name, values := range e.GetHeaders() {
		w.Header()[name] = values
	}
	writeJSON(w, e.status, errorEnvelope{e.body()})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	encoded, err := tasks.Encode(value)
	if err != nil {
		status = http.StatusInternalServerError
		encoded = []byte(`{"error":{"message":"the answer cannot be written as JSON","type":"server_error","param":null,"code":"internal"}}`)
	}
	header := w.Header()
	header.Set("Content-Type", contentJSON)
	header.Set("Content-Length", strconv.Itoa(len(encoded)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(encoded, '\n')) // a client that has left needs no answer
}

// huma has one function that makes its errors, for the whole process.
func init() { huma.NewError = newError }

// newError gives what huma itself refuses OpenAI's form.
func newError(status int, message string, errs ...error) huma.StatusError {
	e := &apiError{status: status, message: message, code: "invalid_request"}
	switch status {
	case http.StatusUnprocessableEntity:
		e.status = http.StatusBadRequest
	case http.StatusRequestEntityTooLarge:
		tooLarge := errTooLarge()
		return &tooLarge
	case http.StatusRequestTimeout:
		e.code, e.message = "body_timeout", "the body did not come within "+bodyWithin.String()
	case http.StatusInternalServerError:
		// huma's only one: the client has not sent what it announced.
		e.status, e.code, e.message = http.StatusBadRequest, "body_incomplete", "the body could not be read to its end"
		return e
	}
	for _, err := range errs {
		var told huma.ErrorDetailer
		if !errors.As(err, &told) {
			continue
		}
		detail := told.ErrorDetail()
		_, name, _ := strings.Cut(detail.Location, ".")
		e.param, e.message = name, detail.Message
		if name != "" {
			e.message = name + ": " + detail.Message
		}
		break
	}
	return e
}

func errTooLarge() apiError {
	return apiError{
		status: http.StatusRequestEntityTooLarge, code: "body_too_large",
		message: "at most " + strconv.Itoa(maxBodyBytes) + " bytes are taken in one request, and " +
			strconv.Itoa(tasks.MaxJobBytes) + " of one job; send the jobs in several requests",
	}
}

func errNoJob(id string) *apiError {
	return &apiError{
		status: http.StatusNotFound, code: "job_not_found", param: "id",
		message: "there is no job " + id + ": the id is wrong, or the job's retention has passed",
	}
}

// failure says over HTTP what a Client's error says in Go. What only the operator is to know, such as inner addresses,
// is not repeated.
func failure(id string, err error) *apiError {
	var field *tasks.FieldError
	var known *apiError
	var refusal *openai.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refusal):
		return &apiError{status: refusal.Status, code: refusal.Code, param: refusal.Param, message: refusal.Message}
	case errors.As(err, &field):
		message := field.Error()
		if place := "at byte " + strconv.Itoa(field.Byte); field.Byte > 0 && !strings.Contains(message, place) {
			message += " (" + place + ")"
		}
		return &apiError{status: http.StatusBadRequest, code: "invalid_job", param: field.Field, message: message}
	case errors.Is(err, tasks.ErrInvalidJob):
		return &apiError{status: http.StatusBadRequest, code: "invalid_job", message: err.Error()}
	case errors.Is(err, producer.ErrIDConflict):
		return &apiError{
			status: http.StatusConflict, code: "id_conflict", param: "id",
			message: "the id " + id + " is taken by a job that asks for something else; choose another id",
		}
	case errors.Is(err, producer.ErrUnreadable):
		return errUnreadable(err)
	case errors.Is(err, producer.ErrNotFound):
		return errNoJob(id)
	case errors.Is(err, producer.ErrNotEnded):
		return &apiError{status: http.StatusConflict, code: "not_ended", param: "id", message: "job " + id + " has not ended; wait for it or cancel it first"}
	case errors.Is(err, producer.ErrStaleRun):
		return &apiError{status: http.StatusConflict, code: "stale_run", param: "run", message: "job " + id + " was run again since that run; look at it again"}
	case errors.Is(err, producer.ErrRefused):
		return &apiError{status: http.StatusConflict, code: "refused", param: "id", message: "job " + id + " was refused and never accepted; send it again, corrected, under the same id"}
	case errors.Is(err, producer.ErrSucceeded):
		return &apiError{status: http.StatusConflict, code: "succeeded", param: "id", message: "job " + id + " has succeeded and is never run again; send it under another id"}
	case errors.Is(err, producer.ErrFull):
		return &apiError{
			status: http.StatusServiceUnavailable, code: "store_full", retryAfter: 10,
			message: "job " + id + " was not accepted: the store has no room for new jobs; send it again later under this id, which repeats nothing",
		}
	case errors.Is(err, producer.ErrUnreplicated):
		return &apiError{
			status: http.StatusServiceUnavailable, code: "store_unavailable",
			message: "it is not known whether job " + id + " was accepted: too few of the store's replicas have it; send it again under this id, which repeats nothing",
		}
	case errors.Is(err, producer.ErrUnaccepted):
		return &apiError{
			status: http.StatusServiceUnavailable, code: "store_unavailable",
			message: "it is not known whether job " + id + " was accepted: the store does not answer; send it again under this id, which repeats nothing",
		}
	}
	return errStore()
}

const codeUnreadable = "unreadable"

// errUnreadable is of what is sealed under a key that this process does not have: it names the key, and nothing else.
func errUnreadable(err error) *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, code: codeUnreadable, retryAfter: 60,
		message: err.Error() + "; the operator's configuration says which keys there are (encryption.keys)",
	}
}

func errStore() *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, code: "store_unavailable",
		message: "the store does not answer now; try again",
	}
}

func badParam(param, message string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "invalid_request", param: param, message: param + ": " + message}
}

// mayWrite refuses an identity that may only read.
func mayWrite(ctx context.Context) error {
	if IdentityOf(ctx).Write {
		return nil
	}
	return &apiError{status: http.StatusForbidden, code: "write_forbidden", message: "this key may only read"}
}

// mayOperate refuses all but operators, and operators that may only read where something is to be changed.
func mayOperate(ctx context.Context, change bool) error {
	if !IdentityOf(ctx).Operator {
		return &apiError{status: http.StatusForbidden, code: "operator_only", message: "this is for operators' keys"}
	}
	if change {
		return mayWrite(ctx)
	}
	return nil
}
