package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/producer/internal/openaitest"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

const (
	chatPath   = "/v1/chat/completions"
	chatCall   = `{"model":"fast_summary","messages":[{"role":"user","content":"x"}]}`
	chatStream = `{"model":"small","stream":true,"stream_options":{"include_usage":true},"messages":[]}`
	chatAnswer = "{\"id\": \"c1\",\n \"object\":\"chat.completion\",\"created\":1,\"model\":\"small\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Größe <&>\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}"
)

// same compares texts byte for byte, also those that are JSON.
func same(t testing.TB, want, got string) {
	t.Helper()
	assert.Equal(t, want, got)
}

// reply is what came of a call.
type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

// send sends a call over the network, headers as pairs, and has its reply read.
func send(ctx context.Context, url, body string, headers ...string) chan reply {
	replies := make(chan reply, 1)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	request.Close = true
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	go func() {
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			replies <- reply{err: err}
			return
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		replies <- reply{answer.StatusCode, answer.Header, string(text), err}
	}()
	return replies
}

// open waits until so many jobs are there, and returns their ids, the newest first.
func (b bundle) open(count int) []string {
	b.t.Helper()
	var ids []string
	require.Eventually(b.t, func() bool {
		page, err := b.jobs.List(b.t.Context(), producer.Filter{}, "", 100)
		require.NoError(b.t, err)
		ids = nil
		for _, row := range page.Jobs {
			ids = append(ids, row.ID)
		}
		return len(ids) == count
	}, 10*time.Second, 5*time.Millisecond)
	return ids
}

// awaited waits until somebody waits for a job's end, or nobody does.
func (b bundle) awaited(id string, want int64) {
	b.t.Helper()
	channel := b.store.Keys().JobDone(id)
	require.Eventually(b.t, func() bool {
		return b.redis.PubSubNumSub(b.t.Context(), channel).Val()[channel] == want
	}, 10*time.Second, 5*time.Millisecond)
}

func (b bundle) run(id string) *jobstore.Record {
	b.t.Helper()
	record, err := b.store.Start(b.t.Context(), id, jobstore.Delivery{ID: "d", Worker: "w"})
	require.NoError(b.t, err)
	return record
}

// answer commits the end of a job that runs, as a worker does: with a response, or a failure.
func (b bundle) answer(record *jobstore.Record, response string, failed *tasks.Failure) {
	b.t.Helper()
	status := tasks.StatusSucceeded
	if failed != nil {
		status = tasks.StatusFailed
	}
	result := record.Outcome(status, time.Now())
	result.Error = failed
	committed, err := b.store.Commit(b.t.Context(), jobstore.Commit{
		ID: record.ID, Run: record.Run, Delivery: "d", Status: status, Result: result, Response: []byte(response),
	})
	require.NoError(b.t, err)
	require.True(b.t, committed.Committed)
}

// A call is a job, and its answer is the provider's, byte for byte.
func TestACompletion(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	url := serve(t, b.API)
	replies := send(t.Context(), url+chatPath, chatCall, "X-Tenant", "acme")
	id := b.open(1)[0]
	record := b.run(id)
	assert.Equal(t, tasks.PriorityCritical, record.Priority)
	assert.Equal(t, "acme", record.Tenant)
	assert.Equal(t, "fast_summary", record.Job.TaskType)
	assert.True(t, strings.HasPrefix(string(record.Job.Request), `{"messages":[{"role":"user","content":"x"}]`), string(record.Job.Request))
	b.awaited(id, 1)
	b.answer(record, chatAnswer, nil)
	got := <-replies
	require.NoError(t, got.err)
	assert.Equal(t, 200, got.status)
	same(t, chatAnswer, got.body)
	assert.Equal(t, id, got.header.Get("X-Forebay-Job"))
	assert.Equal(t, "application/json; charset=utf-8", got.header.Get("Content-Type"))
	require.Eventually(t, func() bool {
		return len(b.redis.Keys(t.Context(), "*calls:*").Val()) == 0
	}, 5*time.Second, 5*time.Millisecond, "nothing is remembered of a call that was answered")
}

func TestACompletionThatFails(t *testing.T) {
	t.Parallel()
	b := embedded(t, func(c *httpapi.Config) { c.Heartbeat = 10 * time.Millisecond })
	url := serve(t, b.API)
	theirs := `{"error": {"message":"no such role","type":"invalid_request_error","param":"messages[0].role","code":null}}`
	for i, row := range []struct {
		body, response string
		failure        tasks.Failure
		status         int
		want           string
	}{
		{chatCall, theirs, tasks.Failure{Class: tasks.ClassInvalid, Message: "small at endpoint here: HTTP 400"}, 400, theirs},
		{chatCall, "", tasks.Failure{Class: tasks.ClassUnavailable, Message: "dial 10.0.0.1"}, 503, `"code":"provider_unavailable"`},
		{chatStream, "", tasks.Failure{Class: tasks.ClassUnavailable, Message: "dial 10.0.0.1"}, 200, `data: {"error":{"message":"No provider`},
	} {
		replies := send(t.Context(), url+chatPath, row.body)
		var id string
		for _, one := range b.open(i + 1) {
			if !b.result(one).Status.Ended() {
				id = one
			}
		}
		time.Sleep(30 * time.Millisecond) // a stream has begun by then
		b.answer(b.run(id), row.response, &row.failure)
		got := <-replies
		assert.Equal(t, row.status, got.status, got.body)
		assert.Contains(t, got.body, row.want)
		assert.NotContains(t, got.body, "10.0.0.1")
		assert.Equal(t, row.status != 200, got.header.Get("X-Should-Retry") == "false")
	}
}

// A stream is silent but for comments until the answer is there, and then is what OpenAI's would have been.
func TestAStream(t *testing.T) {
	t.Parallel()
	b := embedded(t, func(c *httpapi.Config) { c.Heartbeat = 5 * time.Millisecond })
	url := serve(t, b.API)
	replies := send(t.Context(), url+chatPath, chatStream)
	id := b.open(1)[0]
	time.Sleep(30 * time.Millisecond)
	b.answer(b.run(id), chatAnswer, nil)
	got := <-replies
	require.NoError(t, got.err)
	assert.Contains(t, got.header.Get("Content-Type"), "text/event-stream")
	assert.Contains(t, got.body, ": waiting\n\n")
	var data []string
	lines := bufio.NewScanner(strings.NewReader(got.body))
	for lines.Scan() {
		if text, found := strings.CutPrefix(lines.Text(), "data: "); found {
			data = append(data, text)
		}
	}
	head := `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"small","choices":[`
	assert.Equal(t, []string{
		head + `{"index":0,"delta":{"content":"","refusal":null,"role":"assistant"},"logprobs":null,"finish_reason":null}],"usage":null}`,
		head + `{"index":0,"delta":{"content":"Größe <&>"},"logprobs":null,"finish_reason":null}],"usage":null}`,
		head + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}`,
		head + `],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
		"[DONE]",
	}, data)
}

// A client that leaves: what no call is out for is withdrawn, what runs is finished, and the next try joins either.
func TestAClientThatLeaves(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	b := newBundle(t, client)
	url := serve(t, b.API)

	leaving, leave := context.WithCancel(t.Context())
	replies := send(leaving, url+chatPath, chatCall)
	id := b.open(1)[0]
	b.awaited(id, 1)
	leave()
	require.Error(t, (<-replies).err)
	require.Eventually(t, func() bool { return b.result(id).Status == tasks.StatusCancelled }, 10*time.Second, 5*time.Millisecond)
	assert.Equal(t, producer.CodeWithdrawn, b.result(id).Error.Code)

	again, leave := context.WithCancel(t.Context())
	replies = send(again, url+chatPath, chatCall, "X-Stainless-Retry-Count", "1")
	require.Eventually(t, func() bool { return b.result(id).Status == tasks.StatusQueued }, 10*time.Second, 5*time.Millisecond, "it is opened again")
	b.open(1)
	record := b.run(id)
	b.awaited(id, 1)
	leave()
	require.Error(t, (<-replies).err)
	b.awaited(id, 0)
	assert.Equal(t, tasks.StatusRunning, b.result(id).Status, "what runs is finished")

	other := send(t.Context(), url+chatPath, chatCall)
	b.open(2) // an equal call that is no repetition is another job
	b.answer(record, chatAnswer, nil)
	got := <-send(t.Context(), url+chatPath, chatCall, "X-Stainless-Retry-Count", "2")
	assert.Equal(t, id, got.header.Get("X-Forebay-Job"))
	same(t, chatAnswer, got.body)
	for _, one := range b.open(2) {
		if one != id {
			b.answer(b.run(one), chatAnswer, nil)
		}
	}
	assert.NotEqual(t, id, (<-other).header.Get("X-Forebay-Job"))
}

// The producer that held the connection is gone without a word; or is ending.
func TestAProducerThatGoes(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t)
	other := newBundle(t, client)
	url := serve(t, other.API)
	for i, goes := range []func(b bundle, listener *httptest.Server){
		func(b bundle, held *httptest.Server) { // as kill -9 does: all its connections break at once
			held.CloseClientConnections()
		},
		func(b bundle, _ *httptest.Server) { b.Drain() },
	} {
		own := redistest.Options(server.Addr)
		held := newBundle(t, newClient(t, own))
		listener := httptest.NewServer(held.API)
		t.Cleanup(listener.Close)
		replies := send(t.Context(), listener.URL+chatPath, chatCall)
		var id string
		for _, one := range other.open(i + 1) {
			if !other.result(one).Status.Ended() {
				id = one
			}
		}
		other.awaited(id, 1)
		record := other.run(id)
		goes(held, listener)
		if got := <-replies; got.err == nil {
			assert.Equal(t, 503, got.status)
			assert.Contains(t, got.body, "shutting_down")
			assert.Empty(t, got.header.Get("X-Should-Retry"))
		}
		other.awaited(id, 0)
		replies = send(t.Context(), url+chatPath, chatCall, "X-Stainless-Retry-Count", "1")
		other.awaited(id, 1)
		other.answer(record, chatAnswer, nil)
		got := <-replies
		assert.Equal(t, id, got.header.Get("X-Forebay-Job"))
		same(t, chatAnswer, got.body)
	}
}

// An Idempotency-Key names the job, for each tenant its own.
func TestCallsWithAKey(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	url := serve(t, b.API)
	one := send(t.Context(), url+chatPath, chatCall, "Idempotency-Key", "k1")
	require.Equal(t, []string{"k1"}, b.open(1))
	two := send(t.Context(), url+chatPath, chatCall, "Idempotency-Key", "k1")
	got := <-send(t.Context(), url+chatPath, chatStream, "Idempotency-Key", "k1")
	assert.Equal(t, 409, got.status, got.body)
	assert.Equal(t, "false", got.header.Get("X-Should-Retry"), "OpenAI's clients repeat a 409")
	b.answer(b.run("k1"), chatAnswer, nil)
	same(t, chatAnswer, (<-one).body)
	same(t, chatAnswer, (<-two).body)
	b.open(1)
}

func TestCallsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	for _, row := range []struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		{`{"model":"gpt-0","messages":[]}`, nil, 404, "model_not_found"},
		{`{"model":"small"}`, nil, 400, "invalid_value"},
		{`{"model":"small","messages":[],"x":"` + strings.Repeat("x", 8<<20) + `"}`, nil, 413, "body_too_large"},
		{`{`, nil, 400, "invalid_json"},
		{chatCall, []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type"},
		{chatCall, []string{"X-Forebay-Priority", "now"}, 400, "invalid_request"},
		{chatCall, []string{"Idempotency-Key", "no key"}, 400, "invalid_request"},
		{chatCall, []string{"X-Reads", "1"}, 403, "write_forbidden"},
		{chatCall, []string{"X-Nobody", "1"}, 403, "write_forbidden"},
	} {
		answer := b.ask("POST", chatPath, row.body, row.headers...)
		assert.Equal(t, row.status, answer.Code, "%.100s %s", row.body, answer.Body)
		assertError(t, row.code, answer, row.code)
	}
	assert.Empty(t, b.redis.Keys(t.Context(), "*").Val(), "nothing was accepted, and nothing is remembered")
}

func TestModels(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	same(t, `{"object":"list","data":[`+
		`{"id":"small","object":"model","created":0,"owned_by":"model"},`+
		`{"id":"fast_summary","object":"model","created":0,"owned_by":"task_type"},`+
		`{"id":"tier:low","object":"model","created":0,"owned_by":"tier"}]}`, strings.TrimSpace(b.ask("GET", "/v1/models", "").Body.String()))
	assert.Contains(t, b.ask("GET", "/v1/models/tier:low", "", "X-Tenant", "acme").Body.String(), `"owned_by":"tier"`)
	assertError(t, "unknown", b.ask("GET", "/v1/models/org%2Flarge", ""), "model_not_found")
	assert.Equal(t, 403, b.ask("GET", "/v1/models", "", "X-Nobody", "1").Code)
}

func TestAnswersAreOpenAIs(t *testing.T) {
	t.Parallel()
	schemas := openaitest.Open(t)
	b := embedded(t)
	schemas.Check(t, "ListModelsResponse", b.ask("GET", "/v1/models", "").Body.Bytes())
	schemas.Check(t, "Model", b.ask("GET", "/v1/models/small", "").Body.Bytes())
	schemas.Check(t, "ErrorResponse", b.ask("GET", "/v1/models/gone", "").Body.Bytes())
	schemas.Check(t, "ErrorResponse", b.ask("POST", chatPath, `{"model":1}`).Body.Bytes())
	schemas.Check(t, "CreateChatCompletionResponse", []byte(chatAnswer))
	require.True(t, json.Valid(bytes.TrimSpace([]byte(chatAnswer))))
}
