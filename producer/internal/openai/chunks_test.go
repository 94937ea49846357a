package openai_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/internal/openai"
)

// What OpenAI's clients put together of the chunks is the completion that they were made of.
func TestChunks(t *testing.T) {
	t.Parallel()
	logprobs := `{"content":[{"token":"a","logprob":-1,"bytes":null,"top_logprobs":[]}],"refusal":null}`
	body := `{"id":"c1","object":"chat.completion","created":7,"model":"m","service_tier":"default","system_fingerprint":"fp","choices":[
		{"index":0,"message":{"role":"assistant","content":"a","refusal":null,"annotations":[],"reasoning_content":"hm"},"logprobs":` + logprobs + `,"finish_reason":"length"},
		{"index":1,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[
			{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"t2","type":"function","function":{"name":"g","arguments":""}}]},"logprobs":null,"finish_reason":"tool_calls"},
		{"index":2,"message":{"role":"assistant","content":null,"refusal":"no"},"finish_reason":"stop"}],"usage":{"total_tokens":3}}`
	chunks, err := openai.Chunks(json.RawMessage(body), true)
	require.NoError(t, err)
	var got []string
	for _, text := range chunks {
		var one struct {
			Object, ID, Model, ServiceTier string
			Created                        int
			Choices                        []json.RawMessage
			Usage                          json.RawMessage
		}
		require.NoError(t, json.Unmarshal(text, &one))
		require.Equal(t, []any{"chat.completion.chunk", "c1", "m", 7}, []any{one.Object, one.ID, one.Model, one.Created})
		require.Contains(t, string(text), `"service_tier":"default","system_fingerprint":"fp"`)
		if len(one.Choices) == 0 {
			got = append(got, string(one.Usage))
			continue
		}
		require.Equal(t, "null", string(one.Usage))
		got = append(got, string(one.Choices[0]))
	}
	assert.Equal(t, []string{
		`{"index":0,"delta":{"content":"","refusal":null,"role":"assistant"},"logprobs":null,"finish_reason":null}`,
		`{"index":0,"delta":{"content":"a"},"logprobs":` + logprobs + `,"finish_reason":null}`,
		`{"index":0,"delta":{"reasoning_content":"hm"},"logprobs":null,"finish_reason":null}`,
		`{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}`,
		`{"index":1,"delta":{"content":null,"refusal":null,"role":"assistant"},"logprobs":null,"finish_reason":null}`,
		`{"index":1,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":1}"},"id":"t1","index":0,"type":"function"}]},"logprobs":null,"finish_reason":null}`,
		`{"index":1,"delta":{"tool_calls":[{"function":{"name":"g","arguments":""},"id":"t2","index":1,"type":"function"}]},"logprobs":null,"finish_reason":null}`,
		`{"index":1,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}`,
		`{"index":2,"delta":{"content":null,"refusal":null,"role":"assistant"},"logprobs":null,"finish_reason":null}`,
		`{"index":2,"delta":{"refusal":"no"},"logprobs":null,"finish_reason":null}`,
		`{"index":2,"delta":{},"logprobs":null,"finish_reason":"stop"}`,
		`{"total_tokens":3}`,
	}, got)
	_, err = openai.Chunks(json.RawMessage(`{"choices":[{"message":{"tool_calls":7}}]}`), false)
	require.Error(t, err)
}
