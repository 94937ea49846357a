package policy

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/forebay-queue/forebay/tasks"
)

// answerBody is what is read of an answer, in one pass: the error that may stand in it, and the parts of a chat
// completion. The rest is kept as it came.
type answerBody struct {
	errorFields
	Choices []choice        `json:"choices"`
	Data    json.RawMessage `json:"data"`
	Usage   *tasks.Usage    `json:"usage"`
}

type choice struct {
	FinishReason string `json:"finish_reason"`
	Message      struct {
		Content   json.RawMessage   `json:"content"`
		Refusal   *string           `json:"refusal"`
		ToolCalls []json.RawMessage `json:"tool_calls"`
	} `json:"message"`
}

// readAnswer judges a body that came with a good status: it may still be none. The error is that of its decoding.
func readAnswer(kind tasks.Kind, body answerBody, err error) Outcome {
	if kind == tasks.KindEmbedding {
		return readEmbedding(body, err)
	}
	if err != nil {
		return unusable("malformed_answer", "the answer is not the JSON of a chat completion")
	}
	if len(body.Choices) == 0 {
		return unusable("no_choices", "the answer has no choices")
	}
	var first string
	for i, choice := range body.Choices {
		switch {
		case choice.FinishReason == "content_filter":
			return withheld("content_filter", "the provider's content filter stopped the answer", body.Usage)
		case choice.Message.Refusal != nil && *choice.Message.Refusal != "":
			return withheld("refusal", "the model refused to answer", body.Usage)
		}
		content := contentText(choice.Message.Content)
		if content == "" && len(choice.Message.ToolCalls) == 0 {
			return unusable("empty_answer", "the answer has no content (finish_reason "+choice.FinishReason+")")
		}
		if i == 0 {
			first = content
		}
	}
	return Outcome{Text: first, Usage: body.Usage}
}

func readEmbedding(body answerBody, err error) Outcome {
	var data []struct {
		Embedding json.RawMessage `json:"embedding"`
	}
	if err == nil && len(body.Data) > 0 {
		err = json.Unmarshal(body.Data, &data)
	}
	if err != nil {
		return unusable("malformed_answer", "the answer is not the JSON of an embedding")
	}
	if len(data) == 0 {
		return unusable("no_data", "the answer has no embeddings")
	}
	for _, vector := range data {
		if len(vector.Embedding) <= len("[]") {
			return unusable("empty_answer", "the answer has an empty embedding")
		}
	}
	return Outcome{Usage: body.Usage}
}

// unusable is a good status with a bad body: the model may have worked, so it may have been billed.
func unusable(code, message string) Outcome {
	return Outcome{Class: tasks.ClassUnavailable, Code: code, Message: message, MaybeBilled: true}
}

// withheld is an answer that was paid for and not given.
func withheld(code, message string, usage *tasks.Usage) Outcome {
	return Outcome{
		Class: tasks.ClassContentPolicy, Code: code, Message: message,
		Usage: usage, MaybeBilled: usage == nil,
	}
}

// contentText is a message's content: a string, or the texts of a list of parts.
func contentText(content json.RawMessage) string {
	// A string without escapes stands in JSON as it is. Most do, and they are long.
	if len(content) > 1 && content[0] == '"' && bytes.IndexByte(content, '\\') < 0 && utf8.Valid(content) {
		return string(content[1 : len(content)-1])
	}
	var plain string
	if json.Unmarshal(content, &plain) == nil {
		return plain
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(content, &parts) != nil {
		return ""
	}
	var joined strings.Builder
	for _, part := range parts {
		joined.WriteString(part.Text)
	}
	return joined.String()
}
