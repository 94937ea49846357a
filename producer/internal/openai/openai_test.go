package openai_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/producer/internal/openaitest"
	"github.com/forebay-queue/forebay/tasks"
)

func TestNames(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	var names []string
	for _, model := range openai.Models(c) {
		names = append(names, model.OwnedBy+" "+model.ID)
		found, err := openai.Find(model.ID, c)
		require.NoError(t, err)
		assert.Equal(t, model, found)
	}
	assert.Equal(t, []string{
		"model both", "model org/large", "model small", "model vectors", "task_type embed", "task_type fast_summary",
		"tier tier:low", "tier tier:high", "profile profile:balanced",
	}, names, "each name once, and nothing that no endpoint serves")
	for _, name := range []string{"", "nowhere", "tier:", "low", "profile:low", "Small", strings.Repeat("x", 5000)} {
		_, err := openai.Find(name, c)
		refusal := refused(t, err)
		assert.Equal(t, openai.CodeModelNotFound, refusal.Code, name)
		assert.Equal(t, http.StatusNotFound, refusal.Status)
		assert.Less(t, len(refusal.Message), 300)
	}
}

func refused(t testing.TB, err error) *openai.Error {
	t.Helper()
	var refusal *openai.Error
	require.ErrorAs(t, err, &refusal)
	return refusal
}

func TestACallIsAJob(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for body, want := range map[string]tasks.Job{
		`{"model":"small","messages":[]}`:                                  {Model: tasks.Models{"small"}, Request: json.RawMessage(`{"messages":[]}`)},
		"{ \"messages\" : [ 1e0 ] ,\n\"model\":\"both\" , \"x\": \"<é>\"}": {Model: tasks.Models{"both"}, Request: json.RawMessage(`{"messages" : [ 1e0 ],"x": "<é>"}`)},
		`{"stream":false,"model":"fast_summary","messages":[]}`:            {TaskType: "fast_summary", Request: json.RawMessage(`{"messages":[]}`)},
		`{"model":"tier:low","stream":null,"stream_options":null}`:         {Tier: "low", Request: json.RawMessage(`{}`)},
		`{"\u006dodel":"profile:balanced","a":{"model":1}}`:                {Profile: "balanced", Request: json.RawMessage(`{"a":{"model":1}}`)},
	} {
		want.Kind = tasks.KindChat
		job, err := openai.JobOf(openai.ChatCompletions, json.RawMessage(body), c)
		require.NoError(t, err, body)
		assert.Equal(t, want, job, body)
	}
	job, err := openai.JobOf(openai.Embeddings, json.RawMessage(`{"model":"tier:low","input":"x"}`), c)
	require.NoError(t, err)
	assert.Equal(t, tasks.KindEmbedding, job.Kind)
	prepared, err := c.Prepare(job, time.Now())
	require.NoError(t, err)
	assert.Equal(t, []string{"vectors"}, c.ModelsFor(prepared.Job))
	call, err := openai.Read(openai.ChatCompletions, json.RawMessage(`{"model":"small","stream":true,"stream_options":{"include_usage":true}}`), c)
	require.NoError(t, err)
	assert.True(t, call.Stream && call.IncludeUsage)
}

func TestCallsThatAreRefused(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for body, want := range map[string]string{
		``:                                      "400 invalid_json ",
		`{`:                                     "400 invalid_json ",
		`[]`:                                    "400 invalid_json ",
		`null`:                                  "400 invalid_json ",
		`{"model":"small"} {}`:                  "400 invalid_json ",
		"{\"model\":\"small\",\"x\":\"\xff\"}":  "400 invalid_json ",
		strings.Repeat(`{"a":`, 20_000):         "400 invalid_json ",
		`{}`:                                    "400 missing_required_parameter model",
		`{"Model":"small"}`:                     "400 missing_required_parameter model",
		`{"model":null}`:                        "400 invalid_type model",
		`{"model":["small"]}`:                   "400 invalid_type model",
		`{"model":"small","model":"small"}`:     "400 invalid_value model",
		`{"model":"gpt-0"}`:                     "404 model_not_found model",
		`{"model":"nowhere"}`:                   "404 model_not_found model",
		`{"model":"vectors"}`:                   "400 unsupported_value model",
		`{"model":"embed"}`:                     "400 unsupported_value model",
		`{"model":"small","stream":"yes"}`:      "400 invalid_type stream",
		`{"model":"small","stream":true}`:       "400 unsupported_value stream",
		`{"model":"small","stream_options":{}}`: "400 invalid_value stream_options",
	} {
		_, err := openai.JobOf(openai.ChatCompletions, json.RawMessage(body), c)
		refusal := refused(t, err)
		told := refusal.Body()
		param := ""
		if told.Param != nil {
			param = *told.Param
		}
		assert.Equal(t, want, strings.Join([]string{string(itoa(refusal.Status)), told.Code, param}, " "), "%.100s", body)
	}
	_, err := openai.JobOf(openai.Embeddings, json.RawMessage(`{"model":"small"}`), c)
	assert.Contains(t, refused(t, err).Message, openai.ChatCompletions, "it says where to go")
	_, err = openai.JobOf("/v1/responses", json.RawMessage(`{"model":"small"}`), c)
	assert.Equal(t, "unsupported_value", refused(t, err).Code)
	_, err = openai.Read(openai.Embeddings, json.RawMessage(`{"model":"vectors","stream":true}`), c)
	assert.Equal(t, "stream", refused(t, err).Param)
}

func itoa(status int) []byte {
	text, _ := json.Marshal(status)
	return text
}

// What the contract refuses is told by the fields of the call.
func TestRefusalsOfTheWayIn(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for body, param := range map[string]string{
		`{"model":"small"}`:                                    "messages",
		`{"model":"small","messages":[],"messages":[]}`:        "messages",
		`{"model":"small","messages":[],"max_tokens":-1}`:      "max_tokens",
		`{"model":"small","messages":[{"content":"\ud800"}]}`:  "messages[0].content",
		`{"model":"small","messages":[{"role":"","role":""}]}`: "messages[0].role",
	} {
		job, err := openai.JobOf(openai.ChatCompletions, json.RawMessage(body), c)
		require.NoError(t, err)
		_, err = c.Prepare(job, time.Now())
		refusal := openai.Refusal(err)
		require.NotNil(t, refusal, body)
		assert.Equal(t, param, refusal.Param, body)
		assert.Equal(t, http.StatusBadRequest, refusal.Status)
	}
	assert.Nil(t, openai.Refusal(errors.New("away")))
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	good := json.RawMessage("{ \"choices\": [ ] }")
	assert.Equal(t, openai.Answer{Status: 200, Body: good}, openai.AnswerOf(tasks.Result{Status: tasks.StatusSucceeded, Response: good}))

	theirs := json.RawMessage(`{"error": {"message":"no","type":"invalid_request_error","param":"seed","code":null}}`)
	refused := tasks.Result{
		Status: tasks.StatusFailed, Response: theirs, Error: &tasks.Failure{Class: tasks.ClassInvalid},
		Attempts: []tasks.Attempt{{HTTPStatus: 422}},
	}
	assert.Equal(t, openai.Answer{Status: 422, Body: theirs}, openai.AnswerOf(refused), "the provider's own words, byte for byte")

	for _, class := range tasks.Classes() {
		answer := openai.AnswerOf(tasks.Result{
			ID: "j1", Status: tasks.StatusFailed, Attempts: []tasks.Attempt{{HTTPStatus: 401}}, Response: json.RawMessage(`{"error":1}`),
			Error: &tasks.Failure{Class: class, Message: "dial tcp 10.0.0.7:443", Hint: "see the worker's log"},
		})
		var body struct{ Error openai.Body }
		require.NoError(t, json.Unmarshal(answer.Body, &body), class)
		assert.GreaterOrEqual(t, answer.Status, 400, class)
		assert.NotContains(t, string(answer.Body), "10.0.0.7", class)
		assert.Contains(t, body.Error.Message, "j1", class)
		assert.NotEmpty(t, body.Error.Code, class)
		assert.Equal(t, openai.TypeOf(answer.Status), body.Error.Type, class)
	}
	unknown := openai.AnswerOf(tasks.Result{Status: tasks.StatusFailed})
	assert.Equal(t, 500, unknown.Status)
}

func TestObjectsAreOpenAIs(t *testing.T) {
	t.Parallel()
	schemas := openaitest.Open(t)
	c := newCatalog(t)
	list, err := json.Marshal(map[string]any{"object": "list", "data": openai.Models(c)})
	require.NoError(t, err)
	schemas.Check(t, "ListModelsResponse", list)
	_, err = openai.Find("gone", c)
	body, err := json.Marshal(refused(t, err))
	require.NoError(t, err)
	schemas.Check(t, "ErrorResponse", body)
	schemas.Check(t, "ErrorResponse", openai.AnswerOf(tasks.Result{Status: tasks.StatusExpired}).Body)
}

// Whatever a body is: it is refused, or the job's request is what is left of it.
func FuzzRead(f *testing.F) {
	c := newCatalog(f)
	for _, body := range []string{
		`{"model":"small","messages":[{"role":"user","content":"x"}],"stream":true}`, `{"a":1,"model":"small"}`, `{"model":"small",}`,
		`{"model":"small","a":{"model":"b"},"b":[],"c":"\u2028\""}`, "\ufeff{}", ` {"\u006dodel":"small" ,"x" :1 }`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		call, err := openai.Read(openai.ChatCompletions, body, c)
		if err != nil {
			refused(t, err)
			return
		}
		var whole, left map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &whole))
		require.NoError(t, json.Unmarshal(call.Job.Request, &left))
		for _, name := range []string{"model", "stream", "stream_options"} {
			delete(whole, name)
		}
		require.Equal(t, whole, left)
	})
}
