package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// expectation is what a client sees of a failure. Those not listed are canned answers with an error object.
type expectation struct {
	err   error                      // reading the answer ends so
	check func(*testing.T, answered) // beyond status and counters
}

func content(t *testing.T, a answered) chatCompletion {
	t.Helper()
	var c chatCompletion
	a.decode(t, &c)
	return c
}

func isHTML(t *testing.T, a answered) {
	t.Helper()
	assert.True(t, strings.HasPrefix(a.Header.Get("Content-Type"), "text/html"))
	assert.Contains(t, a.text, "<html>")
}

func header(name, value string) func(*testing.T, answered) {
	return func(t *testing.T, a answered) {
		t.Helper()
		assert.Equal(t, value, a.Header.Get(name))
		assert.NotEmpty(t, a.code(t))
	}
}

func notJSON(t *testing.T, a answered) {
	t.Helper()
	assert.False(t, json.Valid([]byte(a.text)), a.text)
}

func verbatim(body string) func(*testing.T, answered) {
	return func(t *testing.T, a answered) {
		t.Helper()
		assert.Equal(t, body, a.text)
		assert.Empty(t, a.Header.Get("Retry-After"))
	}
}

var errBroken = errors.New("any error of the connection")

var expectations = map[string]expectation{
	"429":       {check: header("Retry-After", "2")},
	"429-ms":    {check: header("Retry-After-Ms", "2000")},
	"429-plain": {check: header("Retry-After", "")},
	"429-reset": {check: header("X-Ratelimit-Reset-Requests", "2s")},
	"429-date": {check: func(t *testing.T, a answered) {
		until, err := http.ParseTime(a.Header.Get("Retry-After"))
		require.NoError(t, err)
		assert.Greater(t, time.Until(until), time.Second)
	}},
	"301":      {check: func(t *testing.T, a answered) { isHTML(t, a); assert.Equal(t, "/moved", a.Header.Get("Location")) }},
	"307":      {check: func(t *testing.T, a answered) { isHTML(t, a); assert.Equal(t, "/moved", a.Header.Get("Location")) }},
	"404-html": {check: isHTML}, "413-html": {check: isHTML}, "502-html": {check: isHTML}, "504-html": {check: isHTML},
	"html-200": {check: isHTML}, "relay-html": {check: isHTML},
	"vllm-400-flat":  {check: verbatim(`{"object":"error","message":"temperature must be non-negative, got -1.0.","type":"BadRequestError","param":null,"code":400}`)},
	"vllm-422":       {check: verbatim(`{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required","input":null}]}`)},
	"vllm-401":       {check: verbatim(`{"error":"Unauthorized"}`)},
	"vllm-404-path":  {check: verbatim(`{"detail":"Not Found"}`)},
	"article-401":    {check: verbatim(`{"error":{"message":"Invalid API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`)},
	"article-429":    {check: verbatim(`{"error":{"message":"Rate limit exceeded for model gpt-4.1","type":"rate_limit_error","code":"rate_limit_exceeded"}}`)},
	"article-503":    {check: verbatim(`{"error":{"message":"Service temporarily unavailable","type":"server_error","code":"service_unavailable"}}`)},
	"hang":           {err: context.DeadlineExceeded},
	"reset":          {err: errBroken},
	"hang-body":      {err: context.DeadlineExceeded},
	"reset-body":     {err: errBroken},
	"truncated-body": {err: io.ErrUnexpectedEOF},
	"truncated-json": {check: notJSON}, "malformed-json": {check: notJSON},
	"empty-body":    {check: func(t *testing.T, a answered) { assert.Empty(t, a.text) }},
	"slow-headers":  {check: func(t *testing.T, a answered) { assert.Equal(t, prompt, *content(t, a).Choices[0].Message.Content) }},
	"drip-body":     {check: func(t *testing.T, a answered) { assert.Equal(t, prompt, *content(t, a).Choices[0].Message.Content) }},
	"no-choices":    {check: func(t *testing.T, a answered) { assert.Contains(t, a.text, `"choices":[]`) }},
	"empty-content": {check: func(t *testing.T, a answered) { assert.Empty(t, *content(t, a).Choices[0].Message.Content) }},
	"no-usage":      {check: func(t *testing.T, a answered) { assert.Nil(t, content(t, a).Usage) }},
	"content-filter": {check: func(t *testing.T, a answered) {
		assert.Equal(t, "content_filter", content(t, a).Choices[0].FinishReason)
	}},
	"refusal": {check: func(t *testing.T, a answered) {
		message := content(t, a).Choices[0].Message
		assert.NotEmpty(t, *message.Refusal)
		assert.Nil(t, message.Content)
	}},
	"length": {check: func(t *testing.T, a answered) {
		choice := content(t, a).Choices[0]
		assert.Equal(t, "length", choice.FinishReason)
		assert.True(t, strings.HasPrefix(prompt, *choice.Message.Content))
	}},
}

func TestEveryFailure(t *testing.T) {
	t.Parallel()
	for _, f := range Failures() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { checkFailure(t, f) })
		})
	}
	for name := range expectations {
		assert.Contains(t, failures, name)
	}
}

func checkFailure(t *testing.T, f Failure) {
	t.Helper()
	assert.NotEmpty(t, f.Description)
	assert.NotEmpty(t, f.Dialect)
	b := setup(t, Config{Regions: regions("r")})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := expectations[f.Name]
	a, err := b.try(ctx, http.MethodPost, "/r"+chatPath, chatBody(prompt, ""), HeaderFailure, f.Name, HeaderRequestID, "j")
	synctest.Wait()
	tally := b.sim.Counters().Regions["r"].Models["m"]
	assert.Equal(t, map[string]int64{f.Name: 1}, tally.Kinds)
	assert.Equal(t, int64(1), tally.Asked)
	assert.Equal(t, f.Answered, tally.Answered == 1)
	assert.Equal(t, !f.Answered, tally.Failed == 1)
	assert.Zero(t, tally.InFlight+tally.Abandoned)
	if want.err != nil {
		require.Error(t, err)
		assert.True(t, errors.Is(want.err, errBroken) || errors.Is(err, want.err), err)
		return
	}
	require.NoError(t, err)
	assert.Equal(t, f.Status, a.StatusCode)
	assert.Equal(t, "true", a.Header.Get(HeaderSimulated))
	if want.check != nil {
		want.check(t, a)
		return
	}
	var e struct{ Error map[string]any }
	a.decode(t, &e)
	assert.NotEmpty(t, e.Error["message"])
	assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
}

// Embeddings and lists of models fail alike, as far as they can.
func TestEveryFailureOfOtherCalls(t *testing.T) {
	t.Parallel()
	for _, f := range Failures() {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, Config{Regions: regions("r")})
			require.NoError(t, b.sim.Region("r").SetOutage(f.Name))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a, err := b.try(ctx, http.MethodPost, "/r"+embeddingPath, `{"model":"m","input":"x"}`)
			synctest.Wait()
			assert.Equal(t, map[string]int64{f.Name: 1}, b.sim.Counters().Total.Kinds, f.Name)
			if f.Answered {
				assert.Contains(t, a.text, `"embedding":[`, f.Name)
			} else if err == nil {
				var list embeddingList
				broken := json.Unmarshal([]byte(a.text), &list) != nil
				assert.True(t, broken || len(list.Data) == 0, f.Name)
			}
			again, cancelAgain := context.WithTimeout(t.Context(), time.Minute)
			defer cancelAgain()
			a, err = b.try(again, http.MethodGet, "/r/v1/models", "")
			if f.Status == 0 {
				require.Error(t, err, f.Name)
			} else {
				require.NoError(t, err, f.Name)
				assert.Equal(t, f.Status, a.StatusCode, f.Name)
			}
			assert.Equal(t, int64(1), b.sim.Counters().Total.Asked, "lists are not counted")
		})
	}
}

// Over TCP a reset is a reset, not an end of file.
func TestResetOverTCP(t *testing.T) {
	t.Parallel()
	sim, err := New(Config{Regions: regions("r")})
	require.NoError(t, err)
	server := httptest.NewServer(sim)
	defer server.Close()
	defer server.CloseClientConnections()
	ask := func(kind string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/r"+chatPath, strings.NewReader(chatBody(prompt, "")))
		require.NoError(t, err)
		req.Header.Set(HeaderFailure, kind)
		resp, err := server.Client().Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		_, err = io.ReadAll(resp.Body)
		return err
	}
	for _, kind := range []string{"reset", "reset-body"} {
		var failed *net.OpError
		err := ask(kind)
		require.ErrorAs(t, err, &failed, kind)
		require.ErrorIs(t, err, syscall.ECONNRESET, kind)
	}
	require.ErrorIs(t, ask("truncated-body"), io.ErrUnexpectedEOF)
	require.NoError(t, ask("no-usage"))
	assert.Equal(t, int64(3), sim.Counters().Total.Failed)
}

// A client that goes away while it waits is noticed over TCP too.
func TestAbandonedOverTCP(t *testing.T) {
	t.Parallel()
	sim, err := New(Config{Regions: []RegionConfig{{Name: "r", Latency: Distribution{Min: time.Hour}}}})
	require.NoError(t, err)
	server := httptest.NewServer(sim)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/r"+chatPath, strings.NewReader(chatBody(prompt, "")))
	require.NoError(t, err)
	go func() {
		for sim.Counters().Regions["r"].Models["m"].Asked == 0 {
			runtime.Gosched()
		}
		cancel()
	}()
	_, err = server.Client().Do(req)
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { return sim.Counters().Total.Abandoned == 1 }, 10*time.Second, time.Millisecond)
	server.CloseClientConnections()
}

func TestCloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, Config{Regions: []RegionConfig{{Name: "slow", Latency: Distribution{Min: time.Hour}}, {Name: "r"}}})
		for _, call := range [][]string{{"r", HeaderFailure, "hang"}, {"r", HeaderFailure, "hang-body"}, {"slow"}} {
			go func() {
				_, err := b.try(t.Context(), http.MethodPost, "/"+call[0]+chatPath, chatBody(prompt, ""), call[1:]...)
				assert.Error(t, err)
			}()
		}
		time.Sleep(time.Minute)
		require.NoError(t, b.sim.Close())
		synctest.Wait()
		total := b.sim.Counters().Total
		assert.Equal(t, int64(1), total.Abandoned)
		assert.Zero(t, total.InFlight)
		_, err := b.try(t.Context(), http.MethodGet, "/r/v1/models", "")
		assert.ErrorContains(t, err, "closed")
	})
}
