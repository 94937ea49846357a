package tokens

import (
	"bytes"
	"encoding/json"

	"github.com/forebay-queue/forebay/tasks"
)

// What a chat request has beside its texts, as counted by OpenAI's cookbook:
// https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken
const (
	perMessage = 3 // <|start|>{role}<|message|>...<|end|>
	perName    = 1
	perReply   = 3 // every answer is primed with <|start|>assistant<|message|>
	perCall    = 3 // around the name and the arguments of a tool call; not in the cookbook
)

// The tokens of what is no text. An image is counted by its size, which is not looked at; the most is taken that one of
// detail high has with gpt-4o, 8 tiles of 170 and 85 for the whole, which is also what low detail has. Sounds and files
// count as an image does. https://platform.openai.com/docs/guides/images-vision#calculating-costs
const (
	ImageTokens    = 8*170 + LowImageTokens
	LowImageTokens = 85
)

// Prompt estimates the tokens of a request before its answer: of a chat its messages, tools and the schema of its
// answer, of an embedding its input, as texts or as tokens. What cannot be read as what it should be is counted as the
// JSON that it is. Tools count as their JSON, which is more than OpenAI makes of them and what others put into the prompt.
func Prompt(kind tasks.Kind, request json.RawMessage) int {
	var fields struct {
		Messages       []json.RawMessage `json:"messages"`
		Tools          json.RawMessage   `json:"tools"`
		Functions      json.RawMessage   `json:"functions"`
		ResponseFormat struct {
			JSONSchema json.RawMessage `json:"json_schema"`
		} `json:"response_format"`
		Input json.RawMessage `json:"input"`
	}
	if json.Unmarshal(request, &fields) != nil {
		return raw(request)
	}
	if kind == tasks.KindEmbedding {
		return input(fields.Input)
	}
	count := perReply
	for _, one := range fields.Messages {
		count += message(one)
	}
	return count + raw(fields.Tools) + raw(fields.Functions) + raw(fields.ResponseFormat.JSONSchema)
}

// Message is one of a chat, as a request has it that consists of texts only.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Messages is what messages of texts add to the tokens of a request.
func Messages(messages []Message) int {
	count := 0
	for _, one := range messages {
		count += perMessage + Text(one.Role) + Text(one.Content)
	}
	return count
}

// message counts all that a message has, also what this build does not know.
func message(encoded json.RawMessage) int {
	var fields map[string]json.RawMessage
	if json.Unmarshal(encoded, &fields) != nil {
		return perMessage + raw(encoded)
	}
	count := perMessage
	for name, value := range fields {
		switch name {
		case "content":
			count += content(value)
		case "tool_calls":
			count += toolCalls(value)
		case "tool_call_id": // links the messages, and is not shown to the model
		case "name":
			count += perName + scalar(value)
		default:
			count += scalar(value)
		}
	}
	return count
}

// content is a string or a list of parts.
func content(encoded json.RawMessage) int {
	var parts []json.RawMessage
	if first(encoded) != '[' || json.Unmarshal(encoded, &parts) != nil {
		return scalar(encoded)
	}
	count := 0
	for _, one := range parts {
		count += part(one)
	}
	return count
}

// part counts a part with a text by it. The others have URLs or whole files in Base64, which are no texts.
func part(encoded json.RawMessage) int {
	if first(encoded) != '{' {
		return scalar(encoded)
	}
	var fields struct {
		Text     json.RawMessage `json:"text"`
		Refusal  json.RawMessage `json:"refusal"`
		ImageURL json.RawMessage `json:"image_url"`
	}
	if json.Unmarshal(encoded, &fields) != nil {
		return raw(encoded)
	}
	if fields.Text != nil || fields.Refusal != nil {
		return scalar(fields.Text) + scalar(fields.Refusal)
	}
	var image struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(fields.ImageURL, &image) == nil && image.Detail == "low" {
		return LowImageTokens
	}
	return ImageTokens
}

func toolCalls(encoded json.RawMessage) int {
	var calls []struct {
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	}
	if json.Unmarshal(encoded, &calls) != nil {
		return raw(encoded)
	}
	count := 0
	for _, call := range calls {
		count += perCall + Text(call.Function.Name) + Text(call.Function.Arguments)
	}
	return count
}

// input of an embedding is a text, a list of texts, a list of tokens, or a list of lists of tokens.
func input(encoded json.RawMessage) int {
	if first(encoded) != '[' {
		return scalar(encoded)
	}
	var elements []json.RawMessage
	if json.Unmarshal(encoded, &elements) != nil {
		return raw(encoded)
	}
	count := 0
	for _, element := range elements {
		switch first(element) {
		case '"':
			count += scalar(element)
		case '[':
			var tokens []json.RawMessage
			_ = json.Unmarshal(element, &tokens) // it is an array: it was decoded with the list
			count += len(tokens)
		default:
			count++
		}
	}
	return count
}

// scalar counts a string as its text and all else as its JSON.
func scalar(encoded json.RawMessage) int {
	if first(encoded) == '"' {
		var text string
		if json.Unmarshal(encoded, &text) == nil {
			return Text(text)
		}
	}
	return raw(encoded)
}

// raw counts JSON without the white space between its values; nothing for null or what is not there.
func raw(encoded json.RawMessage) int {
	encoded = bytes.TrimSpace(encoded)
	if len(encoded) == 0 || string(encoded) == "null" {
		return 0
	}
	var compact bytes.Buffer
	if json.Compact(&compact, encoded) != nil {
		return Text(string(encoded))
	}
	return Text(compact.String())
}

// first is the first byte of a value, 0 of none.
func first(encoded json.RawMessage) byte {
	if encoded = bytes.TrimLeft(encoded, " \t\r\n"); len(encoded) > 0 {
		return encoded[0]
	}
	return 0
}
