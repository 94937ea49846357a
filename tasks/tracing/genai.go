package tracing

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"

	"github.com/forebay-queue/forebay/tasks"
)

const (
	// maxWord bounds what is taken of a provider's answer by itself.
	maxWord = 128
	// maxText bounds each text of a prompt or an answer, where they are asked for, and maxTexts how many there are.
	maxText  = 16 << 10
	maxTexts = 64
)

// providers are those that the conventions have a name for, by the ends of their hosts.
var providers = []struct {
	host string
	name attribute.KeyValue
}{
	{"openai.azure.com", semconv.GenAIProviderNameAzureAIOpenAI},
	{"services.ai.azure.com", semconv.GenAIProviderNameAzureAIInference},
	{"anthropic.com", semconv.GenAIProviderNameAnthropic},
	{"amazonaws.com", semconv.GenAIProviderNameAWSBedrock},
	{"cohere.com", semconv.GenAIProviderNameCohere},
	{"cohere.ai", semconv.GenAIProviderNameCohere},
	{"deepseek.com", semconv.GenAIProviderNameDeepseek},
	{"generativelanguage.googleapis.com", semconv.GenAIProviderNameGCPGemini},
	{"aiplatform.googleapis.com", semconv.GenAIProviderNameGCPVertexAI},
	{"groq.com", semconv.GenAIProviderNameGroq},
	{"mistral.ai", semconv.GenAIProviderNameMistralAI},
	{"perplexity.ai", semconv.GenAIProviderNamePerplexity},
	{"x.ai", semconv.GenAIProviderNameXAI},
}

// Provider is the value of gen_ai.provider.name for an endpoint: openai, whose interface it has, unless its host is known
// for another's. The conventions have it so for what speaks OpenAI's; server.address tells more.
func Provider(address string) string {
	host := ""
	if parsed, err := url.Parse(address); err == nil {
		host = parsed.Hostname()
	}
	for _, known := range providers {
		if host == known.host || strings.HasSuffix(host, "."+known.host) {
			return known.name.Value.AsString()
		}
	}
	return semconv.GenAIProviderNameOpenAI.Value.AsString()
}

// Server are the host and port of an address, and nothing else of it.
func Server(address string) []attribute.KeyValue {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Hostname() == "" {
		return nil
	}
	attributes := []attribute.KeyValue{semconv.ServerAddress(parsed.Hostname())}
	port, _ := strconv.Atoi(parsed.Port())
	switch {
	case port != 0:
	case parsed.Scheme == "https":
		port = 443
	case parsed.Scheme == "http":
		port = 80
	default:
		return attributes
	}
	return append(attributes, semconv.ServerPort(port))
}

// Request are the numbers of a request that the conventions name. Nothing of its texts is among them.
func Request(body []byte) []attribute.KeyValue {
	var asked struct {
		MaxTokens           *int     `json:"max_tokens"`
		MaxCompletionTokens *int     `json:"max_completion_tokens"`
		Temperature         *float64 `json:"temperature"`
		TopP                *float64 `json:"top_p"`
		Choices             *int     `json:"n"`
	}
	if json.Unmarshal(body, &asked) != nil {
		return nil
	}
	var attributes []attribute.KeyValue
	if asked.MaxTokens == nil {
		asked.MaxTokens = asked.MaxCompletionTokens
	}
	if asked.MaxTokens != nil {
		attributes = append(attributes, semconv.GenAIRequestMaxTokens(*asked.MaxTokens))
	}
	if asked.Temperature != nil {
		attributes = append(attributes, semconv.GenAIRequestTemperature(*asked.Temperature))
	}
	if asked.TopP != nil {
		attributes = append(attributes, semconv.GenAIRequestTopP(*asked.TopP))
	}
	if asked.Choices != nil && *asked.Choices != 1 {
		attributes = append(attributes, semconv.GenAIRequestChoiceCount(*asked.Choices))
	}
	return attributes
}

// answer is what is read of an answer.
type answer struct {
	ID      string `json:"id"`
	Model   string `json:"model"`
	Choices []struct {
		FinishReason string  `json:"finish_reason"`
		Message      message `json:"message"`
	} `json:"choices"`
}

// Answer are an answer's id, model and finish reasons, as far as they are words.
func Answer(body []byte) []attribute.KeyValue {
	var read answer
	if json.Unmarshal(body, &read) != nil {
		return nil
	}
	var attributes []attribute.KeyValue
	if word(read.ID) {
		attributes = append(attributes, semconv.GenAIResponseID(read.ID))
	}
	if word(read.Model) {
		attributes = append(attributes, semconv.GenAIResponseModel(read.Model))
	}
	var reasons []string
	for _, choice := range read.Choices {
		if word(choice.FinishReason) && len(reasons) < maxTexts {
			reasons = append(reasons, choice.FinishReason)
		}
	}
	if len(reasons) > 0 {
		attributes = append(attributes, semconv.GenAIResponseFinishReasons(reasons...))
	}
	return attributes
}

// word tells of a text that is a name: a provider that repeats the prompt where one belongs is not believed.
func word(text string) bool {
	return text != "" && len(text) <= maxWord && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' })
}

// message is one of a request, or of an answer.
type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// The forms of the conventions for messages.
type (
	part struct {
		Type    string `json:"type"`
		Content string `json:"content,omitempty"`
	}
	shownMessage struct {
		Role         string `json:"role"`
		Parts        []part `json:"parts"`
		FinishReason string `json:"finish_reason,omitempty"`
	}
)

// Asked are the prompts of a request, for those who have asked for them to be in traces.
func Asked(kind tasks.Kind, body []byte) []attribute.KeyValue {
	var asked struct {
		Messages []message       `json:"messages"`
		Input    json.RawMessage `json:"input"`
	}
	if json.Unmarshal(body, &asked) != nil {
		return nil
	}
	if kind == tasks.KindEmbedding {
		asked.Messages = []message{{Role: "user", Content: asked.Input}}
	}
	var shown []shownMessage
	for _, m := range asked.Messages {
		if len(shown) < maxTexts {
			shown = append(shown, shownMessage{Role: m.Role, Parts: m.parts()})
		}
	}
	return shownAs(semconv.GenAIInputMessagesKey, shown)
}

// Answered are the texts of an answer, for those who have asked for them to be in traces.
func Answered(body []byte) []attribute.KeyValue {
	var read answer
	if json.Unmarshal(body, &read) != nil {
		return nil
	}
	var shown []shownMessage
	for _, choice := range read.Choices {
		if len(shown) < maxTexts {
			shown = append(shown, shownMessage{Role: "assistant", Parts: choice.Message.parts(), FinishReason: choice.FinishReason})
		}
	}
	return shownAs(semconv.GenAIOutputMessagesKey, shown)
}

func shownAs(key attribute.Key, messages []shownMessage) []attribute.KeyValue {
	text, err := tasks.Encode(messages)
	if err != nil || len(messages) == 0 {
		return nil
	}
	return []attribute.KeyValue{key.String(string(text))}
}

// parts are a message's: its texts, cut where they are long. Of what is no text only the type is told.
func (m message) parts() []part {
	var plain string
	if json.Unmarshal(m.Content, &plain) == nil {
		return []part{{"text", cut(plain)}}
	}
	var listed []json.RawMessage
	_ = json.Unmarshal(m.Content, &listed)
	parts := []part{}
	for _, one := range listed {
		if len(parts) == maxTexts {
			break
		}
		var typed struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		switch {
		case json.Unmarshal(one, &plain) == nil:
			parts = append(parts, part{"text", cut(plain)})
		case json.Unmarshal(one, &typed) == nil && word(typed.Type):
			parts = append(parts, part{typed.Type, cut(typed.Text)})
		}
	}
	return parts
}

func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "..."
}
