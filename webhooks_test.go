package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// delivered is one POST of a webhook as a receiver gets it.
type delivered struct {
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func (d delivered) id() string { return d.Headers["webhook-id"] }

func (d delivered) event(t *testing.T) (event struct {
	ID, Object, Type string
	Data             struct {
		ID     string
		Status tasks.Status
	}
},
) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(d.Body), &event))
	return event
}

// twiceReceiver takes webhooks, each at its second attempt.
type twiceReceiver struct {
	mu   sync.Mutex
	got  []delivered
	seen map[string]int
	url  string
}

func newTwiceReceiver(t *testing.T) *twiceReceiver {
	t.Helper()
	r := &twiceReceiver{seen: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		one := delivered{Headers: map[string]string{}, Body: string(body)}
		for name := range request.Header {
			one.Headers[strings.ToLower(name)] = request.Header.Get(name)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, one)
		if r.seen[one.id()]++; r.seen[one.id()] == 1 {
			w.WriteHeader(http.StatusConflict) // nothing that would open the target's breaker
		}
	}))
	t.Cleanup(server.Close)
	r.url = server.URL + "/hooks"
	return r
}

// deliveries are those so far.
func (r *twiceReceiver) deliveries() []delivered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// told tells whether an event was told twice: refused, and taken.
func (r *twiceReceiver) told(t *testing.T, event string) bool {
	t.Helper()
	times := 0
	for _, one := range r.deliveries() {
		if one.event(t).Type == event {
			times++
		}
	}
	return times >= 2
}

// signs adds to the configuration a tenant's secret that is being changed, and a subscription for batches.
func (d *deployment) signs(t *testing.T, target string) (secrets []string) {
	t.Helper()
	text := "\nwebhooks:\n  allow_http: true\n  allow_networks: [127.0.0.0/8]\n  schedule: [1s, 1s, 1s]\n" +
		"  subscriptions: [{url: \"" + target + "\"}]\n  secrets:\n    - keys:\n"
	for _, name := range []string{"new.secret", "old.secret"} {
		secrets = append(secrets, catalog.NewWebhookSecret())
		path := filepath.Join(d.dir, name)
		require.NoError(t, os.WriteFile(path, []byte(secrets[len(secrets)-1]+"\n"), 0o600))
		text += "        - file: " + path + "\n"
	}
	d.appendConfig(text)
	return secrets
}

// Every delivery of jobs and batches that end in every way is verified by the libraries that receivers use, with either
// secret while one is changed; forgeries are refused by both.
func TestWebhooksAreVerifiedByOthers(t *testing.T) {
	t.Parallel()
	nodeCommand(t) // or it is skipped
	d := deploy(t, site{})
	r := newTwiceReceiver(t)
	secrets := d.signs(t, r.url)
	d.startWorkers(1)
	_, address := d.serveHTTP(t)
	d.endJobs(t, r)
	d.endBatches(t, r, "http://"+address)
	wanted := slices.Concat(tasks.JobEvents(), tasks.BatchEvents())
	for _, event := range wanted {
		d.eventually(event+" is told", func() bool { return r.told(t, event) })
	}

	all := r.deliveries()
	ids := map[string]string{}
	for _, one := range all {
		event := one.event(t)
		if known, found := ids[event.Type]; found {
			require.Equal(t, known, one.id(), "%s: the same id on every attempt", event.Type)
		}
		ids[event.Type] = one.id()
		if kind, end, _ := strings.Cut(event.Type, "."); kind == "job" {
			assert.Equal(t, end, string(event.Data.Status))
		} else {
			assert.Equal(t, "event", event.Object)
			assert.True(t, strings.HasPrefix(event.ID, "evt_") && strings.HasPrefix(event.Data.ID, "batch_"), one.Body)
		}
	}
	require.Len(t, ids, len(wanted))

	dir := t.TempDir()
	files := []string{filepath.Join(dir, "deliveries.json"), filepath.Join(dir, "secrets.json")}
	for i, value := range []any{all, map[string]any{"valid": secrets, "wrong": catalog.NewWebhookSecret()}} {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(files[i], text, 0o600))
	}
	var counted struct{ Verified, Forgeries int }
	require.NoError(t, json.Unmarshal([]byte(node(t, append([]string{"webhooks.mjs"}, files...)...)), &counted))
	require.Equal(t, 2*2*len(all), counted.Verified, "two libraries, two secrets")
	require.Equal(t, 2*4*len(all), counted.Forgeries)
	t.Logf("%d deliveries of %d events: %d times verified, %d forgeries refused", len(all), len(ids), counted.Verified, counted.Forgeries)
	d.knowsItsWebhooks(t)
}

// knowsItsWebhooks looks at what the command line says of them.
func (d *deployment) knowsItsWebhooks(t *testing.T) {
	t.Helper()
	output, err := d.command("webhooks", "list", "--state", "delivered", "--json").Output()
	require.NoError(t, err)
	var listed struct{ Webhooks []tasks.WebhookStatus }
	require.NoError(t, json.Unmarshal(output, &listed))
	require.GreaterOrEqual(t, len(listed.Webhooks), 1)
	d.eventually("all are known as delivered", func() bool {
		output, err := d.command("webhooks", "list", "--state", "pending", "--json").Output()
		return err == nil && bytes.HasPrefix(output, []byte(`{"webhooks":[]`))
	})
	output, err = d.command("get", "hook-succeeds", "--json").Output()
	require.NoError(t, err)
	var result tasks.Result
	require.NoError(t, json.Unmarshal(output, &result))
	require.Len(t, result.Webhooks, 1)
	require.Equal(t, "delivered", result.Webhooks[0].State)
	require.Equal(t, []int{409, 200}, []int{result.Webhooks[0].History[0].Status, result.Webhooks[0].History[1].Status})

	output, err = d.command("webhooks", "test", "--json").Output()
	require.Error(t, err, "the receiver refuses what it sees the first time")
	require.Contains(t, string(output), `"status":409`)
}

// endJobs has one job end in each way.
func (d *deployment) endJobs(t *testing.T, r *twiceReceiver) {
	t.Helper()
	hook := &tasks.Webhook{URL: r.url}
	tiny, later, soon := 1e-9, time.Now().Add(time.Hour), time.Now().Add(2*time.Second)
	job := func(id string, change func(*tasks.Job)) {
		one := tasks.Job{ID: id, TaskType: "fast_summary", Input: "A forebay is a pool.", Webhook: hook}
		change(&one)
		_, err := d.producer.Enqueue(t.Context(), one)
		require.NoError(t, err)
	}
	job("hook-succeeds", func(*tasks.Job) {})
	job("hook-fails", func(j *tasks.Job) { j.MaxCostUSD = &tiny })
	job("hook-cancelled", func(j *tasks.Job) { j.RunAt = &later })
	_, err := d.producer.Cancel(t.Context(), "hook-cancelled")
	require.NoError(t, err)
	require.NoError(t, d.command("queue", "pause", "bulk").Run())
	job("hook-expires", func(j *tasks.Job) { j.Priority, j.Deadline = tasks.PriorityBulk, &soon })
}

// endBatches has one batch end in each way. The queue bulk is paused, and goes on at last.
func (d *deployment) endBatches(t *testing.T, r *twiceReceiver, api string) {
	t.Helper()
	ctx := t.Context()
	expiring, soon := batches.NewID(), time.Now().Add(2*time.Second)
	_, err := d.producer.Batches().Create(ctx, batches.Batch{
		ID: expiring, Tenant: catalog.DefaultTenant, Kind: batches.KindRun, Deadline: soon, Webhooks: []tasks.Webhook{{URL: r.url}},
	})
	require.NoError(t, err)
	require.NoError(t, d.producer.Batches().Begin(ctx, expiring, 1))
	for _, err := range d.producer.EnqueueMany(ctx, slices.Values([]tasks.Job{{
		ID: batches.MemberID(expiring, 0), TaskType: "fast_summary", Input: "text", Priority: tasks.PriorityBulk, Deadline: &soon,
		Member: &tasks.Member{Batch: expiring, Number: 0},
	}})) {
		require.NoError(t, err)
	}
	const line = `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"fast_summary","messages":[{"role":"user","content":"A text."}]}}`
	cancelled := startBatch(t, api, line)
	d.eventually("the batch is in progress", func() bool { return batchStatus(t, api, cancelled) == "in_progress" })
	answer, err := http.Post(api+"/v1/batches/"+cancelled+"/cancel", "application/json", nil)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	startBatch(t, api, `{"custom_id":"a"}`)
	d.eventually("the deadlines have passed", func() bool { return time.Now().After(soon) })
	require.NoError(t, d.command("queue", "resume", "bulk").Run())
	startBatch(t, api, line)
}

// startBatch uploads a file and has its requests done.
func startBatch(t *testing.T, api, lines string) (id string) {
	t.Helper()
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	require.NoError(t, writer.WriteField("purpose", "batch"))
	part, err := writer.CreateFormFile("file", "requests.jsonl")
	require.NoError(t, err)
	_, err = io.WriteString(part, lines)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	file := postJSON(t, api+"/v1/files", writer.FormDataContentType(), &form)
	return postJSON(t, api+"/v1/batches", "application/json",
		strings.NewReader(`{"input_file_id":"`+file+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`))
}

// postJSON posts, and returns the id of what was made.
func postJSON(t *testing.T, url, contentType string, body io.Reader) (id string) {
	t.Helper()
	answer, err := http.Post(url, contentType, body)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, string(text))
	var made struct{ ID string }
	require.NoError(t, json.Unmarshal(text, &made))
	return made.ID
}

func batchStatus(t *testing.T, api, id string) (status string) {
	t.Helper()
	answer, err := http.Get(api + "/v1/batches/" + id)
	require.NoError(t, err)
	defer answer.Body.Close()
	var read struct{ Status string }
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&read))
	return read.Status
}
