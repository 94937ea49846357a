package httpapi

import (
	"net/http"
	"strconv"

	"github.com/forebay-queue/forebay/tasks"
)

// apiError is an error in OpenAI's form.
type apiError struct {
	status  int
	message string
	// param is the part of the request that is wrong, or empty.
	param string
	code  string
}

func (e apiError) kind() string {
	if e.status >= http.StatusInternalServerError {
		return "server_error"
	}
	return "invalid_request_error"
}

func writeError(w http.ResponseWriter, e apiError) {
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	told := body{Message: e.message, Type: e.kind(), Code: e.code}
	if e.param != "" {
		told.Param = &e.param
	}
	writeJSON(w, e.status, map[string]body{"error": told})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	encoded, err := tasks.Encode(value)
	if err != nil {
		status = http.StatusInternalServerError
		encoded = []byte(`{"error":{"message":"the answer cannot be written as JSON","type":"server_error","param":null,"code":"internal"}}`)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(encoded)+1))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(encoded, '\n')) // a client that has left needs no answer
}
