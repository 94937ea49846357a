package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// plantedText is what is looked for: every place has one of its own.
var plantedText = regexp.MustCompile(`PLANTED-[a-z-]+`)

// sealedConfig is a deployment with encryption, and an endpoint of the test's own.
const sealedConfig = `
accounts: {local: {}}
endpoints:
  local: {account: local, url: %q, region: test, priority: 1, auth: none, models: [small]}
models: {small: {output: 1}}
tiers: [{name: low, models: [small]}]
task_types: {fast_summary: {model: small, prompt: "Summarise: {{input}}"}}
defaults: {max_retries: 1}
retry: {backoff_base: 1s, backoff_max: 2s}
breaker: {failures: 1000}
encryption: {keys: [{id: k2, env: KEY_2}, {id: k1, env: KEY_1}]}
webhooks:
  allow_http: true
  allow_networks: [127.0.0.0/8]
  secrets: [{tenant: default, keys: [{env: HOOK}]}]
`

// teller is an endpoint that says, with what it answers, what it was asked: in answers, refusals and errors.
func teller(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked := plantedText.FindString(string(body))
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.Contains(asked, "error"):
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":{"message":"%s-told","type":"invalid_request_error","param":"%s-param"}}`, asked, asked)
		case strings.Contains(asked, "outage"):
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `{"error":{"message":"%s-told"}}`, asked)
		case strings.Contains(asked, "refused"):
			fmt.Fprintf(w, `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"","refusal":"%s-told"},"finish_reason":"stop"}]}`, asked)
		default:
			fmt.Fprintf(w, `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"%s-answer"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`, asked)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(data)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// sealedDeployment is a whole one, whose Redis and log are looked through.
type sealedDeployment struct {
	*sandbox.Sandbox
	t       *testing.T
	redis   *redis.Client
	log     *lines
	monitor *lines
	files   string
}

func startSealed(t *testing.T) sealedDeployment {
	t.Helper()
	_, server := redistest.Real(t)
	options := redistest.Options(server.Addr)
	options.PoolSize = sandbox.Connections(1, 16, 1)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	file, err := config.Parse("forebay.yaml", fmt.Appendf(nil, sealedConfig, teller(t).URL+"/v1"))
	require.NoError(t, err)
	env := map[string]string{"KEY_1": seal.NewKey(), "KEY_2": seal.NewKey(), "HOOK": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
	file.Catalog.LookupEnv = func(name string) (string, bool) {
		value, found := env[name]
		return value, found
	}
	require.Empty(t, config.Check(file))
	sealer, err := file.Sealer()
	require.NoError(t, err)
	d := sealedDeployment{t: t, redis: client, log: &lines{}, monitor: &lines{}, files: t.TempDir()}
	d.watch(server.Addr)
	d.Sandbox = start(t, sandbox.Config{
		Redis: client, Catalog: &file.Catalog, Sealer: sealer, FilesURL: "file://" + filepath.ToSlash(d.files), HealthInterval: -1,
		Log: zerolog.New(d.log).Level(zerolog.TraceLevel),
	})
	return d
}

// watch takes down every command that the server executes, those of scripts and what they publish included.
func (d sealedDeployment) watch(address string) {
	conn, err := (&net.Dialer{}).DialContext(d.t.Context(), "tcp", address)
	require.NoError(d.t, err)
	_, err = io.WriteString(conn, "MONITOR\r\n")
	require.NoError(d.t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(d.monitor, conn) // until it is closed
	}()
	d.t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
}

// dump is all that stands in Redis, key by key.
func (d sealedDeployment) dump() map[string]string {
	d.t.Helper()
	all := map[string]string{}
	keys, err := d.redis.Keys(d.t.Context(), "*").Result()
	require.NoError(d.t, err)
	for _, key := range keys {
		var content any
		switch kind := d.redis.Type(d.t.Context(), key).Val(); kind {
		case "hash":
			content = d.redis.HGetAll(d.t.Context(), key).Val()
		case "string":
			content = d.redis.Get(d.t.Context(), key).Val()
		case "list":
			content = d.redis.LRange(d.t.Context(), key, 0, -1).Val()
		case "set":
			content = d.redis.SMembers(d.t.Context(), key).Val()
		case "zset":
			content = d.redis.ZRangeWithScores(d.t.Context(), key, 0, -1).Val()
		case "stream":
			content = d.redis.XRange(d.t.Context(), key, "-", "+").Val()
		case "none": // it has expired
		default:
			d.t.Fatalf("key %s is a %s, which this test does not look into", key, kind)
		}
		all[key] = key + " " + fmt.Sprint(content)
	}
	return all
}

// clean asserts that nothing that was planted stands in Redis or in the log.
func (d sealedDeployment) clean(when string) {
	d.t.Helper()
	for key, content := range d.dump() {
		assert.Empty(d.t, plantedText.FindAllString(content, -1), "%s: %s", when, key)
	}
	files := 0
	require.NoError(d.t, filepath.WalkDir(d.files, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files++
			var content []byte
			content, err = os.ReadFile(path)
			assert.Empty(d.t, plantedText.FindAllString(string(content), -1), "%s: %s", when, path)
		}
		return err
	}))
	assert.GreaterOrEqual(d.t, files, 2, "the input and the output of a batch")
	for line := range strings.SplitSeq(d.log.String(), "\n") {
		assert.Empty(d.t, plantedText.FindAllString(line, -1), "%s: log: %s", when, line)
	}
}

// http asks the HTTP interface.
func (d sealedDeployment) http(method, path, contentType string, body io.Reader) string {
	d.t.Helper()
	request, err := http.NewRequestWithContext(d.t.Context(), method, d.HTTPURL+path, body)
	require.NoError(d.t, err)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(d.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(d.t, err)
	require.Less(d.t, response.StatusCode, 300, "%s %s: %s", method, path, answer)
	return string(answer)
}

func (d sealedDeployment) post(path, body string) string {
	d.t.Helper()
	return d.http(http.MethodPost, path, "application/json", strings.NewReader(body))
}

// ended waits for the end of a job.
func (d sealedDeployment) ended(id string, status tasks.Status) tasks.Result {
	d.t.Helper()
	require.Eventually(d.t, func() bool { // one that an inbox or a queue of asynq brings is not there yet
		_, err := d.Client.Get(d.t.Context(), id)
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, id)
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
	defer cancel()
	result, err := d.Client.Wait(ctx, id)
	require.NoError(d.t, err)
	require.Equal(d.t, status, result.Status, "%s: %+v", id, result.Error)
	return result
}

func (d sealedDeployment) queue() string {
	return envelope.Queue(d.Client.Keys(), tasks.PriorityDefault, "")
}

func (d sealedDeployment) upload(content string) string {
	d.t.Helper()
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	require.NoError(d.t, parts.WriteField("purpose", "batch"))
	part, err := parts.CreateFormFile("file", "requests.jsonl")
	require.NoError(d.t, err)
	_, _ = io.WriteString(part, content)
	require.NoError(d.t, parts.Close())
	var made struct{ ID string }
	require.NoError(d.t, json.Unmarshal([]byte(d.http(http.MethodPost, "/v1/files", parts.FormDataContentType(), &form)), &made))
	return made.ID
}

// What is planted in every place where somebody writes something of a request or an answer is found by whom it belongs to,
// and nowhere in Redis, in no command that is sent there, and in no line of the log.
func TestWhatIsSealedIsNowherePlain(t *testing.T) {
	t.Parallel()
	d := startSealed(t)
	ctx := t.Context()

	// By Go, with a webhook and a reply stream.
	_, err := d.Client.Enqueue(ctx, tasks.Job{
		ID: "go", TaskType: "fast_summary", Input: "PLANTED-input", Metadata: map[string]string{"note": "PLANTED-metadata"}, ReplyStream: "answers",
		Webhook: &tasks.Webhook{URL: "http://127.0.0.1:9/PLANTED-url", Headers: map[string]string{"X-Note": "PLANTED-header"}},
	})
	require.NoError(t, err)
	// By HTTP, in whole requests that are refused, wrong, or meet an outage.
	ask := func(id, planted string) {
		d.post("/v1/jobs", fmt.Sprintf(`{"id":%q,"task_type":"fast_summary","request":{"messages":[{"role":"user","content":%q}]},"metadata":{"note":"PLANTED-note"}}`, id, planted))
	}
	ask("refused", "PLANTED-refused")
	ask("wrong", "PLANTED-error")
	ask("outage", "PLANTED-outage")
	// By the inbox, one of them no job.
	inbox := keyspace.New("").Inbox()
	require.NoError(t, d.redis.XAdd(ctx, &redis.XAddArgs{Stream: inbox, Values: []any{"job", `{"id":"inbox","task_type":"fast_summary","input":"PLANTED-inbox"}`}}).Err())
	require.NoError(t, d.redis.XAdd(ctx, &redis.XAddArgs{Stream: inbox, Values: []any{"job", `{"id":"rejected","task_type":"fast_summary","input":"PLANTED-inbox-rejected","max_retries":"x"}`}}).Err())
	// By a client of asynq, which asks for its tasks to be shown for an hour.
	foreign := asynq.NewClientFromRedisClient(d.redis)
	for id, payload := range map[string]string{
		"foreign":          `{"id":"foreign","task_type":"fast_summary","input":"PLANTED-foreign"}`,
		"foreign-rejected": `{"id":"foreign-rejected","task_type":"nothing","input":"PLANTED-foreign-rejected"}`,
	} {
		_, err := foreign.EnqueueContext(ctx, asynq.NewTask("completion:adhoc", []byte(payload)), asynq.TaskID("task-"+id), asynq.Queue(d.queue()), asynq.Retention(time.Hour))
		require.NoError(t, err)
	}
	// By OpenAI's interface.
	input := d.upload(`{"custom_id":"one","method":"POST","url":"/v1/chat/completions","body":{"model":"small","messages":[{"role":"user","content":"PLANTED-member"}]}}` + "\n")
	var batch struct {
		ID, Status string
		Output     string `json:"output_file_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(d.post("/v1/batches",
		`{"input_file_id":"`+input+`","endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"note":"PLANTED-batch"}}`)), &batch))

	// While jobs wait for their next delivery, with what has failed.
	require.Eventually(t, func() bool {
		result, err := d.Client.Get(ctx, "outage")
		return err == nil && result.Status == tasks.StatusRetrying
	}, 20*time.Second, 10*time.Millisecond)
	assert.Contains(t, d.http(http.MethodGet, "/v1/jobs/outage", "", nil), "PLANTED-outage-told", "its user sees what the provider said")

	// Whom it belongs to sees it.
	result := d.ended("go", tasks.StatusSucceeded)
	assert.Equal(t, "PLANTED-input-answer", result.Text)
	assert.Equal(t, map[string]string{"note": "PLANTED-metadata"}, result.Metadata)
	overHTTP := d.http(http.MethodGet, "/v1/jobs/go", "", nil)
	for _, plain := range []string{"PLANTED-input-answer", "PLANTED-metadata"} {
		assert.Contains(t, overHTTP, plain)
	}
	d.ended("refused", tasks.StatusFailed)
	wrong := d.ended("wrong", tasks.StatusFailed)
	assert.Equal(t, "PLANTED-error-told", wrong.Error.Detail)
	assert.Contains(t, string(wrong.Response), "PLANTED-error-param")
	d.ended("outage", tasks.StatusFailed)
	assert.Equal(t, "PLANTED-inbox-answer", d.ended("inbox", tasks.StatusSucceeded).Text)
	assert.Equal(t, "PLANTED-foreign-answer", d.ended("foreign", tasks.StatusSucceeded).Text)
	assert.Contains(t, d.ended("rejected", tasks.StatusFailed).Error.Message, "max_retries: must be a whole number")
	assert.Contains(t, d.ended("foreign-rejected", tasks.StatusFailed).Error.Message, "task_type: ")
	require.Eventually(t, func() bool {
		require.NoError(t, json.Unmarshal([]byte(d.http(http.MethodGet, "/v1/batches/"+batch.ID, "", nil)), &batch))
		return batch.Status == "completed"
	}, 30*time.Second, 50*time.Millisecond)
	assert.Contains(t, d.http(http.MethodGet, "/v1/batches/"+batch.ID, "", nil), "PLANTED-batch")
	assert.Contains(t, d.http(http.MethodGet, "/v1/files/"+batch.Output+"/content", "", nil), "PLANTED-member-answer")
	list, err := d.Client.List(ctx, producer.Filter{Text: "planted-note"}, "", 0)
	require.NoError(t, err)
	assert.Len(t, list.Jobs, 3, "lists find what they look for")
	var reply []redis.XMessage
	require.Eventually(t, func() bool {
		reply = d.redis.XRange(ctx, keyspace.New("").Reply("default", "answers"), "-", "+").Val()
		return len(reply) > 0
	}, 10*time.Second, 10*time.Millisecond)
	text, _ := reply[0].Values["result"].(string)
	assert.True(t, seal.Sealed(text), "a reply stream shows the sealed form")
	opened, err := d.Client.OpenReply("go", text)
	require.NoError(t, err)
	assert.Equal(t, "PLANTED-input-answer", opened.Text)

	// Asynq's console does not.
	for _, path := range []string{"/monitor/api/queues/" + d.queue() + "/completed_tasks", "/monitor/api/queues/" + d.queue() + "/archived_tasks"} {
		shown := d.http(http.MethodGet, path, "", nil)
		assert.NotRegexp(t, plantedText, shown)
	}
	assert.Contains(t, d.http(http.MethodGet, "/monitor/api/queues/"+d.queue()+"/completed_tasks", "", nil), "(sealed)")

	// Nobody else does. Foreign tasks go once asynq has acknowledged them.
	inspector := asynq.NewInspectorFromRedisClient(d.redis)
	require.Eventually(t, func() bool {
		_, one := inspector.GetTaskInfo(d.queue(), "task-foreign")
		_, two := inspector.GetTaskInfo(d.queue(), "task-foreign-rejected")
		return one != nil && two != nil
	}, 10*time.Second, 20*time.Millisecond)
	d.clean("at the end")
	assert.Zero(t, d.redis.XLen(ctx, inbox).Val(), "entries are deleted at acceptance")
	rejected := d.redis.XRange(ctx, keyspace.New("").InboxRejected(), "-", "+").Val()
	require.Len(t, rejected, 1)
	assert.Equal(t, "rejected", rejected[0].Values["id"])
	assert.NotContains(t, rejected[0].Values, "job")
	commands := 0
	for line := range strings.SplitSeq(d.monitor.String(), "\n") {
		commands++
		// What others have sent is theirs; asynq writes a task's message again when it ends it.
		if strings.Contains(line, "PLANTED-inbox") && strings.Contains(line, `"xadd"`) || strings.Contains(line, "PLANTED-foreign") {
			continue
		}
		assert.NotRegexp(t, plantedText, line)
	}
	require.Greater(t, commands, 100, "the commands were seen")
}
