package batchlines

import (
	"encoding/json"
	"io"

	"github.com/forebay-queue/forebay/tasks"
)

// Output is a line of an output or an error file: a Response, or an Error where no response came of the request.
type Output struct {
	ID       string    `json:"id"`
	CustomID string    `json:"custom_id"`
	Response *Response `json:"response"`
	Error    *Failure  `json:"error"`
}

// Response is what the call would have been answered, over HTTP.
type Response struct {
	StatusCode int             `json:"status_code"`
	RequestID  string          `json:"request_id"`
	Body       json.RawMessage `json:"body"`
}

// Failure is why there is no response.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// The codes of a Failure.
const (
	CodeExpired   = "batch_expired"
	CodeCancelled = "batch_cancelled"
)

// Write writes a line. White space between the tokens of a body goes: a line is one line.
func Write(w io.Writer, line Output) error {
	text, err := tasks.Encode(line)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}
