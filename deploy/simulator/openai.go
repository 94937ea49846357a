package simulator

import (
	"bytes"
	"encoding/json"
)

// The objects of OpenAI's API, as far as they are answered.
// https://platform.openai.com/docs/api-reference/chat/object

type chatCompletion struct {
	ID          string   `json:"id"`
	Object      string   `json:"object"`
	Created     int64    `json:"created"`
	Model       string   `json:"model"`
	Choices     []choice `json:"choices"`
	Usage       *usage   `json:"usage,omitempty"`
	ServiceTier string   `json:"service_tier"`
	Fingerprint string   `json:"system_fingerprint"`
}

type choice struct {
	Index        int           `json:"index"`
	Message      answerMessage `json:"message"`
	Logprobs     any           `json:"logprobs"` // always null
	FinishReason string        `json:"finish_reason"`
}

type answerMessage struct {
	Role        string  `json:"role"`
	Content     *string `json:"content"`
	Refusal     *string `json:"refusal"`
	Annotations []any   `json:"annotations"`
}

type embeddingList struct {
	Object string      `json:"object"`
	Data   []embedding `json:"data"`
	Model  string      `json:"model"`
	Usage  *usage      `json:"usage,omitempty"`
}

type embedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // []float32 or a base64 string
}

type usage struct {
	Prompt     int  `json:"prompt_tokens"`
	Completion *int `json:"completion_tokens,omitempty"` // embeddings have none
	Total      int  `json:"total_tokens"`
}

type modelList struct {
	Object string        `json:"object"`
	Data   []modelObject `json:"data"`
}

type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type errorEnvelope struct {
	Error apiError `json:"error"`
}

type apiError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// problem is a request that is refused on its own account.
type problem struct {
	status  int
	kind    string // of the counters
	message string
	errType string
	param   string // "": null
	code    string // "": null
}

func (p *problem) body() []byte {
	e := apiError{Message: p.message, Type: p.errType}
	if p.param != "" {
		e.Param = &p.param
	}
	if p.code != "" {
		e.Code = &p.code
	}
	return encode(errorEnvelope{e})
}

// invalidRequest is the type of the errors that a request brought upon itself.
const invalidRequest = "invalid_request_error"

// invalid is a 400 about one field of the request.
func invalid(param, code, message string) *problem {
	return &problem{400, KindInvalid, message, invalidRequest, param, code}
}

// encode writes JSON the way the providers do, with < and & as they are.
func encode(value any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic("simulator: an answer cannot be encoded: " + err.Error()) // all of them are plain structs
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
