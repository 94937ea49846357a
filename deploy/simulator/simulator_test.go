package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChatCompletion(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Regions: regions("apac")})
	a := b.do(http.MethodPost, "/apac"+chatPath, chatBody("Summarise the text below:\n\n"+prompt, `,"n":2,"temperature":0.7,"unknown":{}`), HeaderRequestID, "job-1")
	require.Equal(t, http.StatusOK, a.StatusCode, a.text)
	assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
	assert.Equal(t, "true", a.Header.Get(HeaderSimulated))
	assert.Equal(t, "job-1", a.Header.Get(HeaderRequestID))

	var object map[string]any
	a.decode(t, &object)
	assert.InDelta(t, time.Now().Unix(), object["created"], 60)
	delete(object, "created")
	in := float64(tokensOf(len("Be brief.") + len("Summarise the text below:\n\n"+prompt)))
	out := float64(2 * tokens(prompt))
	wantChoice := func(index int) any {
		return map[string]any{
			"index": float64(index), "finish_reason": "stop", "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": prompt, "refusal": nil, "annotations": []any{}},
		}
	}
	assert.Equal(t, map[string]any{
		"id": "chatcmpl-apac-00000001", "object": "chat.completion", "model": "m", "service_tier": "default",
		"system_fingerprint": Fingerprint, "choices": []any{wantChoice(0), wantChoice(1)},
		"usage": map[string]any{"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out},
	}, object)
}

func TestChatContentForms(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for name, content := range map[string]string{
		"text":  `"One text is here."`,
		"parts": `[{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"One text is here."}]`,
	} {
		a := b.do(http.MethodPost, chatPath, `{"model":"m","messages":[{"role":"user","content":"Older."},{"role":"assistant","content":null},{"role":"user","content":`+content+`}]}`)
		require.Equal(t, http.StatusOK, a.StatusCode, a.text)
		var c chatCompletion
		a.decode(t, &c)
		assert.Equal(t, "One text is here.", *c.Choices[0].Message.Content, name)
	}
}

func TestChatBound(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, field := range []string{"max_tokens", "max_completion_tokens"} {
		a := b.do(http.MethodPost, chatPath, chatBody(prompt, `,"`+field+`":12`))
		var c chatCompletion
		a.decode(t, &c)
		assert.Equal(t, "length", c.Choices[0].FinishReason)
		assert.LessOrEqual(t, *c.Usage.Completion, 12)
		assert.Contains(t, prompt, *c.Choices[0].Message.Content)
	}
}

func TestFixedAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Regions: []RegionConfig{{Name: "r", Answer: AnswerFixed, AnswerBytes: 100}}, MaxJobs: NoJobs})
	var c chatCompletion
	b.chat("r", HeaderRequestID, "x").decode(t, &c)
	assert.Len(t, *c.Choices[0].Message.Content, 100)
	counters := b.sim.Counters()
	assert.Empty(t, counters.Jobs)
	assert.Equal(t, JobCount{Asked: 1, Answered: 1}, counters.Untracked)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Regions: regions("a", "b"), Keys: []string{"good"}, Models: []string{"m"}, MaxBody: 2000})
	const auth, good = "Authorization", "Bearer good"
	for name, tc := range map[string]struct {
		path, body string
		header     []string
		status     int
		code, kind string
	}{
		"no key":          {chatPath, chatBody(prompt, ""), nil, 401, "invalid_api_key", KindUnauthorized},
		"wrong key":       {chatPath, chatBody(prompt, ""), []string{auth, "Bearer bad"}, 401, "invalid_api_key", KindUnauthorized},
		"unknown model":   {chatPath, strings.Replace(chatBody(prompt, ""), `"m"`, `"x"`, 1), []string{auth, good}, 404, "model_not_found", KindUnknownModel},
		"no model":        {chatPath, `{"messages":[{"role":"user","content":"x"}]}`, []string{auth, good}, 400, "missing_required_parameter", KindInvalid},
		"no messages":     {chatPath, `{"model":"m"}`, []string{auth, good}, 400, "missing_required_parameter", KindInvalid},
		"no text":         {chatPath, chatBody(" ", ""), []string{auth, good}, 400, "invalid_value", KindInvalid},
		"odd messages":    {chatPath, `{"model":"m","messages":"x"}`, []string{auth, good}, 400, "invalid_type", KindInvalid},
		"stream":          {chatPath, chatBody(prompt, `,"stream":true`), []string{auth, good}, 400, "unsupported_value", KindInvalid},
		"odd bound":       {chatPath, chatBody(prompt, `,"max_tokens":0`), []string{auth, good}, 400, "integer_below_min_value", KindInvalid},
		"mistyped":        {chatPath, chatBody(prompt, `,"max_tokens":"many"`), []string{auth, good}, 400, "invalid_type", KindInvalid},
		"odd n":           {chatPath, chatBody(prompt, `,"n":129`), []string{auth, good}, 400, "invalid_value", KindInvalid},
		"no JSON":         {chatPath, "{", []string{auth, good}, 400, "", KindInvalid},
		"too large":       {chatPath, chatBody(strings.Repeat("x", 2000), ""), []string{auth, good}, 413, "context_length_exceeded", KindTooLarge},
		"unknown failure": {chatPath, chatBody(prompt, ""), []string{HeaderFailure, "flood"}, 400, "invalid_value", KindInvalid},
		"no input":        {embeddingPath, `{"model":"m"}`, []string{auth, good}, 400, "missing_required_parameter", KindInvalid},
		"empty input":     {embeddingPath, `{"model":"m","input":""}`, []string{auth, good}, 400, "invalid_value", KindInvalid},
		"odd input":       {embeddingPath, `{"model":"m","input":{}}`, []string{auth, good}, 400, "invalid_type", KindInvalid},
		"odd dimensions":  {embeddingPath, `{"model":"m","input":"x","dimensions":0}`, []string{auth, good}, 400, "invalid_value", KindInvalid},
		"odd encoding":    {embeddingPath, `{"model":"m","input":"x","encoding_format":"hex"}`, []string{auth, good}, 400, "invalid_value", KindInvalid},
	} {
		before := b.sim.Counters().Regions["a"].Kinds[tc.kind]
		a := b.do(http.MethodPost, "/a"+tc.path, tc.body, tc.header...)
		assert.Equal(t, tc.status, a.StatusCode, name)
		assert.Equal(t, tc.code, a.code(t), name)
		assert.Equal(t, before+1, b.sim.Counters().Regions["a"].Kinds[tc.kind], name)
		assert.NotContains(t, a.text, "forebay is", "no part of a prompt stands in an error")
	}
	ok := b.do(http.MethodPost, "/a"+chatPath, chatBody(prompt, ""), "api-key", "good")
	assert.Equal(t, http.StatusOK, ok.StatusCode)
	assert.Contains(t, b.do(http.MethodPost, "/a"+chatPath, "{}", HeaderFailure, "flood").text, "hang", "the kinds are listed")
}

func TestPaths(t *testing.T) {
	t.Parallel()
	several := setup(t, Config{Regions: regions("a", "b"), Models: []string{"m", "n"}})
	single := setup(t, Config{})
	get := func(b *bundle, path string) int { return b.do(http.MethodGet, path, "").StatusCode }
	assert.Equal(t, 200, get(several, "/a/v1/models"))
	assert.Equal(t, 404, get(several, "/v1/models"), "which of the two?")
	assert.Equal(t, 404, get(several, "/c/v1/models"))
	assert.Equal(t, 404, get(several, "/a/v1/files"))
	assert.Equal(t, 405, get(several, "/a"+chatPath))
	assert.Equal(t, 405, get(several, "/_simulator/outage"))
	assert.Equal(t, 404, get(several, "/_simulator/other"))
	assert.Equal(t, 200, get(several, "/a/_simulator/counters"))
	assert.Equal(t, 200, get(single, "/v1/models"))
	assert.Equal(t, 200, get(single, "/simulated/v1/models"))

	var list modelList
	several.do(http.MethodGet, "/b/v1/models", "").decode(t, &list)
	require.Len(t, list.Data, 2)
	assert.Equal(t, "n", list.Data[1].ID)
	assert.Zero(t, several.sim.Counters().Total.Asked, "lists are not counted")

	slow := setup(t, Config{Regions: []RegionConfig{{Name: "s", Slow: 30 * time.Millisecond}}})
	require.NoError(t, slow.sim.Region("s").SetOutage(slowHeaders))
	assert.GreaterOrEqual(t, elapsed(func() { assert.Equal(t, 200, get(slow, "/s/v1/models")) }), 30*time.Millisecond)

	for region, want := range map[string]int{"a": 200, "c": 404} {
		w := httptest.NewRecorder()
		several.sim.Handler(region).ServeHTTP(w, httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(chatBody(prompt, ""))))
		assert.Equal(t, want, w.Code, region)
	}
	assert.Nil(t, several.sim.Region("c"))
	assert.Equal(t, "b", several.sim.Regions()[1].Name())
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	ask := func(fields string) (vectors [][]float32, in int) {
		a := b.do(http.MethodPost, embeddingPath, `{"model":"e",`+fields+`}`)
		require.Equal(t, http.StatusOK, a.StatusCode, a.text)
		var list struct {
			Object string
			Model  string
			Data   []struct {
				Object    string
				Index     int
				Embedding json.RawMessage
			}
			Usage map[string]int
		}
		a.decode(t, &list)
		assert.Equal(t, "list", list.Object)
		assert.Equal(t, "e", list.Model)
		assert.Len(t, list.Usage, 2)
		for i, d := range list.Data {
			assert.Equal(t, "embedding", d.Object)
			assert.Equal(t, i, d.Index)
			vectors = append(vectors, vectorOf(t, d.Embedding))
		}
		return vectors, list.Usage["total_tokens"]
	}
	several, in := ask(`"input":["water in the pool","the pool of water","a gate"]`)
	assert.Equal(t, 5+5+2, in)
	require.Len(t, several, 3)
	assert.Len(t, several[0], 256)
	assert.InDelta(t, 1, dot(several[0], several[0]), 1e-5)
	assert.Greater(t, dot(several[0], several[1]), dot(several[0], several[2])+0.1, "shared words bring texts near each other")

	single, _ := ask(`"input":"a gate"`)
	assert.Equal(t, several[2], single[0], "the same text, the same vector")
	coded, _ := ask(`"input":"a gate","encoding_format":"base64"`)
	assert.Equal(t, single, coded)
	short, _ := ask(`"input":"a gate","dimensions":8`)
	assert.Len(t, short[0], 8)
	ids, in := ask(`"input":[[1,2,3],[4]]`)
	assert.Len(t, ids, 2)
	assert.Equal(t, 4, in)
	ids, _ = ask(`"input":[1,2,3]`)
	assert.Len(t, ids, 1)
	blank, _ := ask(`"input":"?!","dimensions":1`)
	assert.InDelta(t, 1, dot(blank[0], blank[0]), 1e-5, "never a zero vector")
}

func vectorOf(t *testing.T, raw json.RawMessage) (vector []float32) {
	t.Helper()
	if raw[0] == '[' {
		require.NoError(t, json.Unmarshal(raw, &vector))
		return vector
	}
	var coded string
	require.NoError(t, json.Unmarshal(raw, &coded))
	packed, err := base64.StdEncoding.DecodeString(coded)
	require.NoError(t, err)
	for i := 0; i < len(packed); i += 4 {
		vector = append(vector, math.Float32frombits(binary.LittleEndian.Uint32(packed[i:])))
	}
	return vector
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]Config{
		`region 1: name "" must match`:                 {Regions: regions("")},
		`name "v1" must match`:                         {Regions: regions("v1")},
		`region "a" is named twice`:                    {Regions: regions("a", "a")},
		`must not be negative, got -1s`:                {Regions: []RegionConfig{{Name: "a", Latency: Distribution{Min: -time.Second}}}},
		`shape must be "uniform" or "lognormal"`:       {Regions: []RegionConfig{{Name: "a", Latency: Distribution{Shape: "flat"}}}},
		`a lognormal latency needs`:                    {Regions: []RegionConfig{{Name: "a", Latency: Distribution{Shape: ShapeLogNormal}}}},
		`limits must not be negative`:                  {Regions: []RegionConfig{{Name: "a", Limits: Limits{RequestsPerMinute: -1}}}},
		`model "m": limits must not be negative`:       {Regions: []RegionConfig{{Name: "a", ModelLimits: map[string]Limits{"m": {TokensPerMinute: -1}}}}},
		`failure rate must be between 0 and 1`:         {Regions: []RegionConfig{{Name: "a", FailureRate: math.NaN()}}},
		`no failure of the kind "flood"; the kinds`:    {Regions: []RegionConfig{{Name: "a", Failure: "flood"}}},
		`answer must be "summary" or "fixed"`:          {Regions: []RegionConfig{{Name: "a", Answer: "none"}}},
		`outage 1: it names no kinds`:                  {Regions: []RegionConfig{{Name: "a", Outages: []Outage{{}}}}},
		`by jobs and by time`:                          {Regions: []RegionConfig{{Name: "a", Outages: []Outage{{Kinds: []string{"500"}, FromJob: 1, Until: 1}}}}},
		`it must end after it begins, got jobs 2 to 1`: {Regions: []RegionConfig{{Name: "a", Outages: []Outage{{Kinds: []string{"500"}, FromJob: 2, UntilJob: 1}}}}},
		`it must end after it begins, got 2s to 1s`:    {Regions: []RegionConfig{{Name: "a", Outages: []Outage{{Kinds: []string{"500"}, From: 2 * time.Second, Until: time.Second}}}}},
		`largest body must be positive`:                {MaxBody: -1},
	} {
		_, err := New(config)
		assert.ErrorContains(t, err, want)
	}
}
