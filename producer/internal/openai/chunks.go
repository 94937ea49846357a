package openai

import (
	"encoding/json"
	"fmt"

	"github.com/forebay-queue/forebay/tasks"
)

// chunk is a part of a completion that is streamed. See
// https://platform.openai.com/docs/api-reference/chat-streaming/streaming.
type chunk struct {
	ID                json.RawMessage `json:"id"`
	Object            string          `json:"object"`
	Created           json.RawMessage `json:"created"`
	Model             json.RawMessage `json:"model"`
	ServiceTier       json.RawMessage `json:"service_tier,omitempty"`
	SystemFingerprint json.RawMessage `json:"system_fingerprint,omitempty"`
	Choices           []chunkChoice   `json:"choices"`
	Usage             json.RawMessage `json:"usage,omitempty"`
}

type chunkChoice struct {
	Index        int                        `json:"index"`
	Delta        map[string]json.RawMessage `json:"delta"`
	Logprobs     json.RawMessage            `json:"logprobs"`
	FinishReason json.RawMessage            `json:"finish_reason"`
}

type completion struct {
	ID                json.RawMessage `json:"id"`
	Created           json.RawMessage `json:"created"`
	Model             json.RawMessage `json:"model"`
	ServiceTier       json.RawMessage `json:"service_tier"`
	SystemFingerprint json.RawMessage `json:"system_fingerprint"`
	Usage             json.RawMessage `json:"usage"`
	Choices           []struct {
		Index        int                        `json:"index"`
		Message      map[string]json.RawMessage `json:"message"`
		Logprobs     json.RawMessage            `json:"logprobs"`
		FinishReason json.RawMessage            `json:"finish_reason"`
	} `json:"choices"`
}

var null = json.RawMessage("null")

// Chunks cuts a finished chat completion into the objects that a stream of it has: for each choice its role, its content,
// each of its tool calls and why it ended, and where it is asked for the usage. What a message has beside that, which
// OpenAI does not know, is passed on as it is.
func Chunks(body json.RawMessage, includeUsage bool) ([]json.RawMessage, error) {
	var whole completion
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, fmt.Errorf("read a chat completion: %w", err)
	}
	head := chunk{
		ID: orNull(whole.ID), Object: "chat.completion.chunk", Created: orNull(whole.Created), Model: orNull(whole.Model),
		ServiceTier: whole.ServiceTier, SystemFingerprint: whole.SystemFingerprint,
	}
	if includeUsage {
		head.Usage = null
	}
	var chunks []json.RawMessage
	var failed error
	add := func(one chunk) {
		text, err := tasks.Encode(one)
		if err != nil {
			failed = err
		}
		chunks = append(chunks, text)
	}
	for _, choice := range whole.Choices {
		deltas, err := deltasOf(choice.Message)
		if err != nil {
			return nil, err
		}
		for i, delta := range append(deltas, map[string]json.RawMessage{}) {
			part := chunkChoice{Index: choice.Index, Delta: delta, Logprobs: null, FinishReason: null}
			if i == 1 { // of the content, which follows the role
				part.Logprobs = orNull(choice.Logprobs)
			}
			if i == len(deltas) {
				part.FinishReason = orNull(choice.FinishReason)
			}
			one := head
			one.Choices = []chunkChoice{part}
			add(one)
		}
	}
	if includeUsage {
		last := head
		last.Choices, last.Usage = []chunkChoice{}, orNull(whole.Usage)
		add(last)
	}
	return chunks, failed
}

func orNull(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return null
	}
	return value
}

// deltasOf cuts a message into what is sent of it, one after the other; the first has its role.
func deltasOf(message map[string]json.RawMessage) ([]map[string]json.RawMessage, error) {
	first := map[string]json.RawMessage{"role": json.RawMessage(`"assistant"`), "content": json.RawMessage(`""`), "refusal": null}
	if role := message["role"]; len(role) > 0 {
		first["role"] = role
	}
	content, rest := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for name, value := range message {
		switch text := string(value); {
		case name == "role", name == "tool_calls", text == "null", text == `""`, text == "[]":
		case name == "content", name == "refusal":
			content[name] = value
		default:
			rest[name] = value
		}
	}
	if orNull(message["content"])[0] == 'n' {
		first["content"] = null
	}
	deltas := []map[string]json.RawMessage{first}
	for _, delta := range []map[string]json.RawMessage{content, rest} {
		if len(delta) > 0 {
			deltas = append(deltas, delta)
		}
	}
	var tools []map[string]json.RawMessage
	if given := message["tool_calls"]; len(given) > 0 && !isNull(given) {
		if err := json.Unmarshal(given, &tools); err != nil {
			return nil, fmt.Errorf("read the tool calls of a chat completion: %w", err)
		}
	}
	for i, tool := range tools {
		tool["index"], _ = json.Marshal(i) // a number always encodes
		text, err := tasks.Encode([]map[string]json.RawMessage{tool})
		if err != nil {
			return nil, err
		}
		deltas = append(deltas, map[string]json.RawMessage{"tool_calls": text})
	}
	return deltas, nil
}
