package batchio

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
)

// The lines of an output.
type (
	textLine struct {
		ID   string `json:"id"`
		Text string `json:"text"`
	}
	responseLine struct {
		ID       string          `json:"id"`
		Response json.RawMessage `json:"response"`
	}
	resultLine struct {
		ID       string `json:"id"`
		Text     string `json:"text,omitempty"`
		Model    string `json:"model,omitempty"`
		Endpoint string `json:"endpoint,omitempty"`
		// Response is there where the answer has no text: an embedding, a call of a tool.
		Response json.RawMessage   `json:"response,omitempty"`
		Usage    *tasks.Usage      `json:"usage,omitempty"`
		CostUSD  float64           `json:"cost_usd"`
		Job      string            `json:"job"`
		Metadata map[string]string `json:"metadata,omitempty"`
	}
	errorLine struct {
		ID string `json:"id"`
		// Line or File is where it stands in the input.
		Line   int            `json:"line,omitempty"`
		File   string         `json:"file,omitempty"`
		Status tasks.Status   `json:"status"`
		Error  *tasks.Failure `json:"error"`
		Job    string         `json:"job,omitempty"`
		// CostUSD is what its calls have cost all the same.
		CostUSD float64 `json:"cost_usd,omitempty"`
	}
)

// StatusRefused is that of a line that was never a job.
const StatusRefused tasks.Status = "refused"

func (o *Output) line(a Answer, style Style) error {
	r := a.Result
	switch style {
	case StyleText:
		return o.json(textLine{a.Key, r.Text})
	case StyleResponse:
		return o.json(responseLine{a.Key, r.Response})
	case StyleOpenAI:
		return o.json(openAILine{
			ID: requestID(r.ID), CustomID: a.Key,
			Response: &openAIResponse{StatusCode: http.StatusOK, RequestID: r.ID, Body: r.Response},
		})
	case StyleResult:
	}
	line := resultLine{
		ID: a.Key, Text: r.Text, Model: r.Model, Endpoint: r.Endpoint, Usage: r.Usage, CostUSD: r.CostUSD, Job: r.ID, Metadata: r.Metadata,
	}
	if r.Text == "" {
		line.Response = r.Response
	}
	return o.json(line)
}

func (o *Output) errorLine(a Answer, style Style) error {
	r := a.Result
	if style != StyleOpenAI {
		line := errorLine{ID: a.Key, File: a.File, Status: r.Status, Error: r.Error, Job: r.ID, CostUSD: r.CostUSD}
		if a.File == "" {
			line.Line = a.Line
		}
		return o.json(line)
	}
	failed := openAILine{ID: requestID(r.ID), CustomID: a.Key, Error: &openAIError{Code: openAICode(r), Message: messageOf(r.Error)}}
	if status := statusOf(r); status >= http.StatusBadRequest && len(r.Response) > 0 {
		failed.Error, failed.Response = nil, &openAIResponse{StatusCode: status, RequestID: r.ID, Body: r.Response}
	}
	if r.ID == "" {
		failed.Line = a.Line
	}
	return o.json(failed)
}

// OpenAI's lines: https://platform.openai.com/docs/api-reference/batch/request-output
type (
	openAILine struct {
		ID       string          `json:"id"`
		CustomID string          `json:"custom_id"`
		Response *openAIResponse `json:"response"`
		Error    *openAIError    `json:"error"`
		// Line is where a line stands that was never a request; OpenAI refuses such a file as a whole.
		Line int `json:"line,omitempty"`
	}
	openAIResponse struct {
		StatusCode int             `json:"status_code"`
		RequestID  string          `json:"request_id"`
		Body       json.RawMessage `json:"body"`
	}
	openAIError struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
)

func requestID(job string) string {
	if job == "" {
		return ""
	}
	return "batch_req_" + strings.TrimPrefix(job, "batch_")
}

func openAICode(r tasks.Result) string {
	switch {
	case r.Status == tasks.StatusExpired:
		return "batch_expired"
	case r.Status == tasks.StatusCancelled:
		return "batch_cancelled"
	case r.Error != nil && r.Error.Code != "":
		return r.Error.Code
	}
	return "request_failed"
}

func messageOf(failure *tasks.Failure) string {
	if failure == nil {
		return "It has ended without an answer."
	}
	return failure.Message
}

// statusOf is the HTTP status of the last call.
func statusOf(r tasks.Result) int {
	if len(r.Attempts) == 0 {
		return 0
	}
	return r.Attempts[len(r.Attempts)-1].HTTPStatus
}
