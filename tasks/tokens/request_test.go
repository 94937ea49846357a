package tokens_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tokens"
)

// cookbook is the conversation of OpenAI's cookbook, for which its API counted 124 tokens with gpt-4o and gpt-4o-mini:
// https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken
const cookbook = `{"temperature":0,"messages":[
	{"role":"system","content":"You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
	{"role":"system","name":"example_user","content":"New synergies will help drive top-line growth."},
	{"role":"system","name":"example_assistant","content":"Things working well together will increase revenue."},
	{"role":"system","name":"example_user","content":"Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
	{"role":"system","name":"example_assistant","content":"Let's talk later when we're less busy about how to do better."},
	{"role":"user","content":"This late pivot means we don't have time to boil the ocean for the client deliverable."}]}`

func TestCountsAsOpenAIDoes(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 124, tokens.Prompt(tasks.KindChat, json.RawMessage(cookbook)))
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	const hello = 3 + 3 + 1 + 2 // the reply, the message, its role, "hello world"
	one := func(fields string) string { return `{"messages":[{"role":"user",` + fields + `}]}` }
	large := strings.Repeat("QUJD", 100_000)
	for _, test := range []struct {
		name    string
		kind    tasks.Kind
		request string
		want    int
	}{
		{"a string", tasks.KindChat, one(`"content":"hello world"`), hello},
		{"escapes are read", tasks.KindChat, one(`"content":"\u0068ello w\u006frld"`), hello},
		{"parts", tasks.KindChat, one(`"content":[{"type":"text","text":"hello"},{"type":"text","text":" world"}]`), hello},
		{"a part that is a string", tasks.KindChat, one(`"content":["hello"," world"]`), hello},
		{"a refusal", tasks.KindChat, one(`"content":[{"type":"refusal","refusal":"hello world"}]`), hello},
		{"an image", tasks.KindChat, one(`"content":[{"type":"text","text":"hello world"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + large + `"}}]`), hello + tokens.ImageTokens},
		{"a URL for an image", tasks.KindChat, one(`"content":[{"type":"text","text":"hello world"},{"type":"image_url","image_url":"https://example.com/a.png"}]`), hello + tokens.ImageTokens},
		{"low detail", tasks.KindChat, one(`"content":[{"type":"text","text":"hello world"},{"type":"image_url","image_url":{"url":"x","detail":"low"}}]`), hello + tokens.LowImageTokens},
		{"a file", tasks.KindChat, one(`"content":[{"type":"text","text":"hello world"},{"type":"file","file":{"file_data":"` + large + `"}}]`), hello + tokens.ImageTokens},
		{"a name", tasks.KindChat, one(`"name":"hello world","content":""`), hello + 1},
		{"tool calls", tasks.KindChat, one(`"content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"hello","arguments":" world"}}]`), hello + 3},
		{"a tool's answer", tasks.KindChat, one(`"tool_call_id":"call_1","content":"hello world"`), hello},
		{"what is not known", tasks.KindChat, one(`"reasoning_content":"hello world"`), hello},
		{"tools", tasks.KindChat, `{"tools": [{"type": "function"}], "messages":[{"role":"user","content":"hello world"}]}`, hello + tokens.Text(`[{"type":"function"}]`)},
		{"a schema", tasks.KindChat, `{"response_format":{"type":"json_schema","json_schema":{"name":"a"}},"messages":[{"role":"user","content":"hello world"}]}`, hello + tokens.Text(`{"name":"a"}`)},
		{"a message that is none", tasks.KindChat, `{"messages":["hello world"]}`, 3 + 3 + tokens.Text(`"hello world"`)},
		{"no messages", tasks.KindChat, `{}`, 3},
		{"no request", tasks.KindChat, `"hello world"`, tokens.Text(`"hello world"`)},

		{"a text", tasks.KindEmbedding, `{"input":"hello world"}`, 2},
		{"texts", tasks.KindEmbedding, `{"input":["hello world","hello world"]}`, 4},
		{"tokens", tasks.KindEmbedding, `{"input":[24912, 2375, 7]}`, 3},
		{"lists of tokens", tasks.KindEmbedding, `{"input":[[24912,2375],[7],[]]}`, 3},
		{"nothing", tasks.KindEmbedding, `{"input":null}`, 0},
	} {
		assert.Equal(t, test.want, tokens.Prompt(test.kind, json.RawMessage(test.request)), test.name)
	}
}

// The cookbook's request with a tool had 101 tokens with gpt-4o by OpenAI's API. An estimate may be too high, but not
// too low.
func TestToolsAreNotCountedTooLow(t *testing.T) {
	t.Parallel()
	const request = `{"messages":[
		{"role":"system","content":"You are a helpful assistant that can answer to questions about the weather."},
		{"role":"user","content":"What's the weather like in San Francisco?"}],
	"tools":[{"type":"function","function":{"name":"get_current_weather","description":"Get the current weather in a given location",
		"parameters":{"type":"object","properties":{
			"location":{"type":"string","description":"The city and state, e.g. San Francisco, CA"},
			"unit":{"type":"string","description":"The unit of temperature to return","enum":["celsius","fahrenheit"]}},
			"required":["location"]}}}]}`
	count := tokens.Prompt(tasks.KindChat, json.RawMessage(request))
	assert.GreaterOrEqual(t, count, 101)
	assert.LessOrEqual(t, count, 151)
}

func FuzzPrompt(f *testing.F) {
	f.Add(cookbook)
	f.Add(`{"input":[[1,2],"x",{"a":null}]}`)
	f.Add(`{"messages":[{"content":[{"image_url":7},[],null]},null,7]}`)
	f.Fuzz(func(t *testing.T, request string) {
		for _, kind := range []tasks.Kind{tasks.KindChat, tasks.KindEmbedding} {
			if count := tokens.Prompt(kind, json.RawMessage(request)); count < 0 {
				t.Errorf("%s: %d tokens", kind, count)
			}
		}
	})
}
