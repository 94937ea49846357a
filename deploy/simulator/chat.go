package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxChoices is OpenAI's bound of n.
const maxChoices = 128

// chatRequest is what is read of a request for a chat completion; all other fields are let through unread.
type chatRequest struct {
	Model               string          `json:"model"`
	Messages            json.RawMessage `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	N                   *int            `json:"n"`
	Stream              bool            `json:"stream"`
}

type chatMessage struct {
	Role    string      `json:"role"`
	Content contentText `json:"content"`
}

// contentText is the text of a message, given as one string or in parts.
type contentText string

// UnmarshalJSON reads a string, null, or a list of parts of which those of the type "text" count.
func (c *contentText) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		var parts []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(raw, &parts); err != nil {
			return err
		}
		var texts []string
		for _, p := range parts {
			if p.Type == "text" {
				texts = append(texts, p.Text)
			}
		}
		*c = contentText(strings.Join(texts, "\n\n"))
		return nil
	}
	return json.Unmarshal(raw, (*string)(c))
}

// chatJob is a chat completion that was asked for and understood.
type chatJob struct {
	model    string
	document string
	prompt   int // tokens
	bound    int // tokens of each choice
	choices  int
}

func (j *chatJob) modelName() string { return j.model }

// charge is what the token limits count on arrival.
func (j *chatJob) charge() int { return j.prompt + j.bound*j.choices }

// readChat understands the body of POST /v1/chat/completions. The model comes back even where the rest is refused.
func readChat(body []byte, fixed bool) (job, string, *problem) {
	var r chatRequest
	if p := decode(body, &r); p != nil {
		return nil, r.Model, p
	}
	j := &chatJob{model: r.Model, bound: DefaultMaxTokens, choices: 1}
	for _, bound := range []*int{r.MaxTokens, r.MaxCompletionTokens} {
		if bound != nil {
			j.bound = *bound
		}
	}
	if r.N != nil {
		j.choices = *r.N
	}
	switch {
	case r.Stream:
		return nil, r.Model, invalid("stream", "unsupported_value",
			"Streaming is not simulated: leave 'stream' out or set it to false.")
	case j.bound < 1:
		return nil, r.Model, invalid("max_tokens", "integer_below_min_value",
			fmt.Sprintf("Invalid 'max_tokens': expected a value of at least 1, but got %d instead.", j.bound))
	case j.choices < 1 || j.choices > maxChoices:
		return nil, r.Model, invalid("n", "invalid_value",
			fmt.Sprintf("Invalid 'n': expected a value between 1 and %d, but got %d instead.", maxChoices, j.choices))
	case fixed && len(r.Messages) > 0:
		j.prompt = tokensOf(len(r.Messages))
		return j, r.Model, nil
	}
	return j, r.Model, j.readMessages(r.Messages)
}

func (j *chatJob) readMessages(raw json.RawMessage) *problem {
	var messages []chatMessage
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &messages); err != nil {
			return invalid("messages", "invalid_type", "Invalid type for 'messages': expected an array of objects with a role and a content.")
		}
	}
	if len(messages) == 0 {
		return invalid("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
	}
	size, last := 0, ""
	for _, m := range messages {
		size += len(m.Content)
		if m.Role == "user" {
			last = string(m.Content)
		}
	}
	j.prompt = tokensOf(size)
	j.document = document(last)
	if strings.TrimSpace(j.document) == "" {
		return invalid("messages", "invalid_value", "Invalid 'messages': the last message of the role 'user' holds no text.")
	}
	return nil
}

// decode reads a JSON object and words its errors without quoting from it.
func decode(body []byte, into any) *problem {
	err := json.Unmarshal(body, into)
	var mistyped *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mistyped) && mistyped.Field != "":
		return invalid(mistyped.Field, "invalid_type", fmt.Sprintf("Invalid type for '%s': got %s instead.", mistyped.Field, mistyped.Value))
	default:
		return invalid("", "", "We could not parse the JSON body of your request: it must be one JSON object.")
	}
}

// answer writes the completion.
func (j *chatJob) answer(r *Region, seq uint64) *reply {
	text, finish := r.fixed, "stop"
	if text == "" {
		var cut bool
		if text, cut = summarise(j.document, j.bound); cut {
			finish = "length"
		}
	}
	c := &chatCompletion{
		ID:          fmt.Sprintf("chatcmpl-%s-%08d", r.config.Name, seq),
		Object:      "chat.completion",
		Created:     time.Now().Unix(),
		Model:       j.model,
		ServiceTier: "default",
		Fingerprint: Fingerprint,
	}
	for i := range j.choices {
		c.Choices = append(c.Choices, choice{
			Index:        i,
			Message:      answerMessage{Role: "assistant", Content: &text, Annotations: []any{}},
			FinishReason: finish,
		})
	}
	out := tokens(text) * j.choices
	c.Usage = &usage{Prompt: j.prompt, Completion: &out, Total: j.prompt + out}
	return &reply{chat: c, in: j.prompt, out: out}
}
