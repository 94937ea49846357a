package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/alerts/alertstest"
)

// What is planted. None of it stands in another one, so that a leak says what has leaked.
const (
	plantedPrompt     = "PLANTEDPROMPTa1b2"
	plantedCompletion = "PLANTEDCOMPLETIONc3d4"
	plantedMetadata   = "PLANTEDMETADATAe5f6"
	plantedKeyNear    = "sk-PLANTEDKEYNEAR0123456789"
	plantedKeyFar     = "sk-PLANTEDKEYFAR9876543210"
	plantedRedis      = "PLANTEDREDISPASSWORD"
	plantedCollector  = "PLANTEDCOLLECTORKEY"
	plantedWebhook    = "whsec_UExBTlRFRFdFQkhPT0tTRUNSRVRQTEFOVEVEMTI="
	// plantedPath is the part of a webhook's URL that only its receiver knows.
	plantedPath = "PLANTEDWEBHOOKPATH"
)

// planted is what must not appear where it does not belong, by what it is.
type planted struct {
	// content are prompts and answers: some places are there to show them. Labels are what users hang on their jobs, which
	// lists show. Secrets are shown nowhere.
	content, labels, secrets map[string]string
}

func newPlanted() *planted {
	return &planted{
		content: map[string]string{"prompt": plantedPrompt, "completion": plantedCompletion},
		labels:  map[string]string{"metadata": plantedMetadata},
		secrets: map[string]string{
			"provider key": plantedKeyNear, "other provider key": plantedKeyFar, "password of Redis": plantedRedis, "key of the collector": plantedCollector,
			"webhook secret": strings.TrimPrefix(plantedWebhook, "whsec_"), "webhook secret, decoded": "PLANTEDWEBHOOKSECRETPLANTED",
		},
	}
}

// leaks are what a text holds of it, with what stands around it.
func leaks(text string, values map[string]string) (found []string) {
	for what, value := range values {
		if at := strings.Index(text, value); at >= 0 {
			found = append(found, fmt.Sprintf("%s: ...%s...", what, text[max(0, at-160):min(len(text), at+len(value)+60)]))
		}
	}
	slices.Sort(found)
	return found
}

// echoes is a provider that says again, in its errors, what it was asked and with which key, as some do.
type echoes struct {
	mu    sync.Mutex
	tried map[string]int
}

func (e *echoes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !strings.HasPrefix(key, "sk-PLANTED") {
		http.Error(w, `{"error":{"message":"no key","code":"invalid_api_key"}}`, http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, `{"object":"list","data":[]}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	asked := string(body)
	e.mu.Lock()
	e.tried[asked]++
	first := e.tried[asked] == 1
	e.mu.Unlock()
	fail := func(status int, code string) {
		w.WriteHeader(status)
		text, _ := json.Marshal(map[string]any{"error": map[string]any{
			"message": "cannot do " + asked + " with the key " + key, "type": asked, "param": asked, "code": code,
		}})
		_, _ = w.Write(text)
	}
	switch {
	case strings.Contains(asked, "REFUSE400"):
		fail(http.StatusBadRequest, "invalid_value")
	case strings.Contains(asked, "ODDCODE400"):
		fail(http.StatusBadRequest, asked)
	case strings.Contains(asked, "FILTER"):
		fail(http.StatusBadRequest, "content_filter")
	case strings.Contains(asked, "FIRST500") && first:
		fail(http.StatusInternalServerError, "server_error")
	case strings.Contains(asked, "FIRST429") && first:
		w.Header().Set("Retry-After", "1")
		fail(http.StatusTooManyRequests, "rate_limit_exceeded")
	case strings.Contains(asked, "HTML") && first:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>"+plantedCompletion+asked+"</html>")
	case strings.Contains(asked, "TORN") && first:
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"`+plantedCompletion)
	case strings.Contains(asked, "KEY401"):
		fail(http.StatusUnauthorized, "invalid_api_key")
	default:
		text, _ := json.Marshal(map[string]any{
			"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{
				"role": "assistant", "content": plantedCompletion + " " + asked,
			}}},
			"usage": map[string]any{"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
		})
		_, _ = w.Write(text)
	}
}

// receives is what webhooks and the like were sent.
type receives struct {
	mu     sync.Mutex
	bodies []string
	url    string
}

func newReceives(t *testing.T, status func(body string) int) *receives {
	t.Helper()
	r := &receives{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		r.bodies = append(r.bodies, fmt.Sprint(request.Header)+string(body))
		r.mu.Unlock()
		w.WriteHeader(status(string(body)))
		_, _ = io.WriteString(w, plantedCompletion) // what a receiver answers is kept for those who look at it
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receives) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bodies)
}

// secretFile writes a secret to a file beside the configuration.
func (d *deployment) secretFile(name, value string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	require.NoError(d.t, os.WriteFile(path, []byte(value+"\n"), 0o600))
	return path
}

// plantConfig gives the deployment the planted keys, and a Redis that asks for a password.
func (d *deployment) plantConfig(t *testing.T, channels *alertstest.Receivers, spans *spanCollector) {
	t.Helper()
	require.NoError(t, d.redis.Do(t.Context(), "ACL", "SETUSER", "planted", "on", ">"+plantedRedis, "~*", "&*", "+@all").Err())
	path := filepath.Join(d.dir, "forebay.yaml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	change := strings.NewReplacer(
		fmt.Sprintf("redis: {url: %q}", d.redisURL),
		fmt.Sprintf("redis: {url: %q, username: planted, password_file: %q}", d.redisURL, d.secretFile("redis.password", plantedRedis)),
		"accounts: {sim: {}}",
		fmt.Sprintf("accounts: {sim: {key_file: %q}, other: {key_file: %q}}", d.secretFile("near.key", plantedKeyNear), d.secretFile("far.key", plantedKeyFar)),
		"auth: none", "auth: bearer",
		"far: {account: sim", "far: {account: other",
	)
	changed := change.Replace(string(text)) + fmt.Sprintf(`
health: {interval: 1s}
retry: {backoff_base: 10ms, backoff_max: 100ms, try_backoff: 10ms}
webhooks:
  allow_http: true
  allow_networks: [127.0.0.0/8]
  schedule: [1s, 1s]
  secrets: [{keys: [{file: %q}]}]
schedules:
  - {name: often, cron: "@every 1s", job: {task_type: fast_summary, input: "%s of a schedule"}}
tracing:
  endpoint: %q
  headers: {x-collector-key: {file: %q}}
alerts:
  group: 1s
  resolve_after: 2s
  for: {breaker_open: 1s}
%s`, d.secretFile("webhook.secret", plantedWebhook), plantedPrompt, spans.url, d.secretFile("collector.key", plantedCollector), channels.Config(d.dir))
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(path, []byte(changed), 0o600))
}
