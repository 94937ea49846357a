package policy

import (
	"encoding/json"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// chatAnswer is what is read of a chat completion; the rest is kept as it came.
type chatAnswer struct {
	Choices []struct {
		FinishReason string `json:"finish_reason"`
		Message      struct {
			Content   json.RawMessage   `json:"content"`
			Refusal   *string           `json:"refusal"`
			ToolCalls []json.RawMessage `json:"tool_calls"`
		} `json:"message"`
	} `json:"choices"`
	Usage *tasks.Usage `json:"usage"`
}

type embeddingAnswer struct {
	Data []struct {
		Embedding json.RawMessage `json:"embedding"`
	} `json:"data"`
	Usage *tasks.Usage `json:"usage"`
}

// readAnswer judges a body that came with a good status: it may still be none.
func readAnswer(kind tasks.Kind, answer provider.Answer) Outcome {
	if kind == tasks.KindEmbedding {
		return readEmbedding(answer)
	}
	var chat chatAnswer
	if err := json.Unmarshal(answer.Body, &chat); err != nil {
		return unusable("malformed_answer", "the answer is not the JSON of a chat completion")
	}
	if len(chat.Choices) == 0 {
		return unusable("no_choices", "the answer has no choices")
	}
	var texts []string
	for _, choice := range chat.Choices {
		switch {
		case choice.FinishReason == "content_filter":
			return withheld("content_filter", "the provider's content filter stopped the answer", chat.Usage)
		case choice.Message.Refusal != nil && *choice.Message.Refusal != "":
			return withheld("refusal", "the model refused to answer", chat.Usage)
		}
		content := contentText(choice.Message.Content)
		if content == "" && len(choice.Message.ToolCalls) == 0 {
			return unusable("empty_answer", "the answer has no content (finish_reason "+choice.FinishReason+")")
		}
		texts = append(texts, content)
	}
	return Outcome{Text: texts[0], Usage: chat.Usage}
}

func readEmbedding(answer provider.Answer) Outcome {
	var embedding embeddingAnswer
	if err := json.Unmarshal(answer.Body, &embedding); err != nil {
		return unusable("malformed_answer", "the answer is not the JSON of an embedding")
	}
	if len(embedding.Data) == 0 {
		return unusable("no_data", "the answer has no embeddings")
	}
	for _, vector := range embedding.Data {
		if len(vector.Embedding) <= len("[]") {
			return unusable("empty_answer", "the answer has an empty embedding")
		}
	}
	return Outcome{Usage: embedding.Usage}
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
