package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/alerts/alertstest"
)

// secretRun is a deployment in which secrets, prompts and answers are planted.
type secretRun struct {
	*deployment
	planted          *planted
	receiver         *receives
	processes        map[string]*process
	api              string
	operator, tenant string // API keys
	succeeds, fails  []string
	batch            string
	file, output     string
	refusals         []string // what senders of jobs were told that were not accepted
	metricsOf        map[string]string
	channels         *alertstest.Receivers
	spans            *spanCollector
}

// TestNothingIsTold runs everything there is, with a provider that repeats in its errors what it was asked and with which
// key. What was planted stands in no metric, log line, event or page but those that show a job's content to its owner.
func TestNothingIsTold(t *testing.T) {
	t.Parallel()
	r := startSecretRun(t)
	r.work(t)
	r.disturb(t)

	for name, p := range r.processes {
		text := p.log.text()
		assert.NotEmpty(t, text, "%s says what it does", name)
		r.clean(t, "log of "+name, text)
	}
	for name, url := range r.metricsOf {
		status, text := r.ask(t, http.MethodGet, url+"/metrics", "", "")
		require.Equal(t, http.StatusOK, status)
		r.clean(t, "metrics of "+name, text)
	}
	r.checkStreams(t)
	r.checkRedis(t)
	r.checkCommands(t)
	r.checkPages(t)
	for _, told := range r.refusals {
		r.clean(t, "refusal", told)
	}
	for _, body := range r.receiver.all() {
		r.safe(t, "webhook", body)
	}
	r.checkAlerts(t)
	r.clean(t, "spans", r.spans.text())
}

// checkAlerts waits until every channel was told of something, and looks at what.
func (r *secretRun) checkAlerts(t *testing.T) {
	t.Helper()
	for _, channel := range alertstest.Types {
		r.eventually(channel+" is told", func() bool { return len(r.channels.Taken(channel)) > 0 })
		for _, taken := range r.channels.Taken(channel) {
			r.clean(t, "alert of "+channel, taken.Text)
		}
	}
	require.NotEmpty(t, r.spans.text())
}

// clean checks that nothing planted stands in a text, safe that no secret does.
func (r *secretRun) clean(t *testing.T, where, text string) {
	t.Helper()
	assert.Empty(t, leaks(text, r.planted.content), where)
	assert.Empty(t, leaks(text, r.planted.labels), where)
	r.safe(t, where, text)
}

func (r *secretRun) safe(t *testing.T, where, text string) {
	t.Helper()
	assert.Empty(t, leaks(text, r.planted.secrets), where)
}

func startSecretRun(t *testing.T) *secretRun {
	t.Helper()
	provider := &echoes{tried: map[string]int{}}
	d := deploy(t, site{
		regions:  []simulator.RegionConfig{{Name: "near"}, {Name: "far"}},
		provider: func(http.Handler) http.Handler { return provider },
	})
	channels, spans := alertstest.Start(t), newSpanCollector(t)
	d.plantConfig(t, channels, spans)
	r := &secretRun{deployment: d, channels: channels, spans: spans, planted: newPlanted(), processes: map[string]*process{}, metricsOf: map[string]string{}}
	r.receiver = newReceives(t, func(body string) int {
		if strings.Contains(body, "HOOKFAILS") {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r.operator, r.tenant = r.newKey(t, "--operator"), r.newKey(t, "--tenant", "default")
	r.planted.secrets["operator's key"], r.planted.secrets["tenant's key"] = r.operator, r.tenant
	r.planted.secrets["webhook path"] = plantedPath
	for what, value := range map[string]string{
		"channel's URL": path.Base(channels.URL("slack")), "Lark's secret": alertstest.LarkSecret,
		"DingTalk's secret": alertstest.DingTalkSecret, "channel's webhook secret": alertstest.WebhookSecret,
	} {
		r.planted.secrets[what] = value
	}
	for name, args := range map[string][]string{
		"worker": {"worker", "--log-format", "json"}, "console": {"worker", "--log-format", "console"},
		"scheduler": {"scheduler", "--log-format", "json"}, "standby": {"scheduler", "--log-format", "json"},
		"producer": {"producer", "--listen", "127.0.0.1:0", "--log-format", "json"},
	} {
		p, err := d.launch(append(args, "--log-level", "debug", "--ops-listen", "127.0.0.1:0")...)
		require.NoError(t, err)
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				t.Logf("log of %s:\n%s", name, lastLines(p.log.text(), 10))
			}
		})
		r.processes[name] = p
	}
	for name, p := range r.processes {
		if name != "console" { // its lines are for people
			r.metricsOf[name] = "http://" + r.address(p, "health and metrics are served")
		}
	}
	r.api = "http://" + r.address(r.processes["producer"], "HTTP interface listens")
	return r
}

func (r *secretRun) newKey(t *testing.T, whose ...string) string {
	t.Helper()
	var made struct{ Secret string }
	output, err := r.command(append([]string{"keys", "create", "--json"}, whose...)...).Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(output, &made))
	require.NotEmpty(t, made.Secret)
	return made.Secret
}

var loggedAddress = regexp.MustCompile(`"address":"([^"]+)"`)

// address waits for the line of a log that says it.
func (r *secretRun) address(p *process, told string) (found string) {
	r.t.Helper()
	r.eventually(told, func() bool {
		for line := range strings.Lines(p.log.text()) {
			if at := loggedAddress.FindStringSubmatch(line); at != nil && strings.Contains(line, told) {
				found = at[1]
			}
		}
		return found != ""
	})
	return found
}

// ask sends a request and returns what came back, with the headers.
func (r *secretRun) ask(t *testing.T, method, url, key, body string, headers ...string) (status int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err, url)
	defer answer.Body.Close()
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		defer time.AfterFunc(2*time.Second, cancel).Stop() // it has no end
	}
	read, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, fmt.Sprint(answer.Header) + "\n\n" + string(read)
}

// bodyOf is what ask has returned, without the headers.
func bodyOf(text string) []byte {
	_, body, _ := strings.Cut(text, "\n\n")
	return []byte(body)
}

// work has jobs end in every way, by every way in.
func (r *secretRun) work(t *testing.T) {
	t.Helper()
	send := func(id, more string) {
		t.Helper()
		job := fmt.Sprintf(`{"id":%q,"task_type":"fast_summary","input":"%s %s","metadata":{"about":%q}%s}`, id, plantedPrompt, id, plantedMetadata, more)
		status, answer := r.ask(t, http.MethodPost, r.api+"/v1/jobs", r.tenant, job)
		require.Equal(t, http.StatusCreated, status, answer)
	}
	hook := func(path string) string {
		return fmt.Sprintf(`,"webhook":{"url":%q}`, r.receiver.url+"/"+plantedPath+path)
	}
	for _, id := range []string{"good", "FIRST500", "FIRST429", "HTML", "TORN"} {
		send(id, hook(""))
		r.succeeds = append(r.succeeds, id)
	}
	for _, id := range []string{"REFUSE400", "ODDCODE400", "FILTER"} {
		send(id, hook(""))
		r.fails = append(r.fails, id)
	}
	send("HOOKFAILS", hook("/fails"))
	r.succeeds = append(r.succeeds, "HOOKFAILS")
	send("later", fmt.Sprintf(`,"run_at":%q`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	send("cancelled", fmt.Sprintf(`,"run_at":%q`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	status, answer := r.ask(t, http.MethodDelete, r.api+"/v1/jobs/cancelled", r.tenant, "")
	require.Equal(t, http.StatusOK, status, answer)
	r.fails = append(r.fails, "cancelled")

	for _, job := range []string{
		fmt.Sprintf(`{"id":"inboxed","task_type":"fast_summary","input":%q,"reply_stream":"answers"}`, plantedPrompt),
		fmt.Sprintf(`{"id":"bad","task_type":"fast_summary","input":%q,"max_retries":%q}`, plantedPrompt, plantedPrompt),
		fmt.Sprintf(`{"id":"worse","task_type":"fast_summary","input":%q`, plantedPrompt),
	} {
		require.NoError(t, r.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: "forebay:inbox", Values: map[string]any{"job": job}}).Err())
	}
	r.succeeds = append(r.succeeds, "inboxed")
	status, answer = r.ask(t, http.MethodPost, r.api+"/v1/chat/completions", r.tenant,
		fmt.Sprintf(`{"model":"fast_summary","messages":[{"role":"user","content":%q}]}`, plantedPrompt))
	require.Equal(t, http.StatusOK, status, answer)
	r.runBatch(t)
	r.sendMistakes(t)
	for _, id := range slices.Concat(r.succeeds, r.fails) {
		r.eventually(id+" has ended", func() bool {
			result, err := r.producer.Get(t.Context(), id)
			return err == nil && result.Status.Ended()
		})
	}
	for _, id := range r.succeeds {
		assert.Equal(t, tasks.StatusSucceeded, r.result(id).Status, id)
	}
	r.eventually("a webhook is given up", func() bool {
		dead, err := r.store.DeadWebhooks(t.Context())
		return err == nil && dead.Count > 0
	})
	r.eventually("an inbox entry is refused", func() bool {
		refused, err := r.redis.XLen(t.Context(), "forebay:inbox:rejected").Result()
		return err == nil && refused >= 2
	})
}

// runBatch has a batch done over HTTP, one of whose members fails.
func (r *secretRun) runBatch(t *testing.T) {
	t.Helper()
	var lines, form bytes.Buffer
	for _, word := range []string{"one", "REFUSE400"} {
		fmt.Fprintf(&lines, `{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":"fast_summary","messages":[{"role":"user","content":"%s %s"}]}}`+"\n",
			word, plantedPrompt, word)
	}
	writer := multipart.NewWriter(&form)
	require.NoError(t, writer.WriteField("purpose", "batch"))
	part, err := writer.CreateFormFile("file", "requests.jsonl")
	require.NoError(t, err)
	_, _ = part.Write(lines.Bytes())
	require.NoError(t, writer.Close())
	made := func(text string) (object struct {
		ID, Status   string
		OutputFileID string `json:"output_file_id"`
	},
	) {
		require.NoError(t, json.Unmarshal(bodyOf(text), &object), text)
		return object
	}
	_, answer := r.ask(t, http.MethodPost, r.api+"/v1/files", r.tenant, form.String(), "Content-Type", writer.FormDataContentType())
	r.file = made(answer).ID
	_, answer = r.ask(t, http.MethodPost, r.api+"/v1/batches", r.tenant,
		fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"a":%q}}`, r.file, plantedMetadata))
	r.batch = made(answer).ID
	r.eventually("the batch has ended", func() bool {
		_, answer := r.ask(t, http.MethodGet, r.api+"/v1/batches/"+r.batch, r.tenant, "")
		batch := made(answer)
		r.output = batch.OutputFileID
		return batch.Status == "completed"
	})
}

// sendMistakes sends what is refused, and keeps what its sender is told.
func (r *secretRun) sendMistakes(t *testing.T) {
	t.Helper()
	for _, body := range []string{
		`{"task_type":"fast_summary","input":"` + plantedPrompt,
		`{"task_type":"fast_summary","input":"` + plantedPrompt + `","deadline":"` + plantedPrompt + `"}`,
		`{"task_type":"fast_summary","request":{"messages":[],"stream":"` + plantedPrompt + `"}}`,
		`{"task_type":"fast_summary","input":["` + plantedPrompt + `"]}`,
		`{"task_type":"fast_summary","input":"a","metadata":{"a":["` + plantedMetadata + `"]}}`,
		`{"id":"good","task_type":"fast_summary","input":"` + plantedPrompt + ` of another"}`,
		`{"task_type":"fast_summary","input":"a","webhook":{"url":"ftp://` + plantedPath + `"}}`,
	} {
		status, answer := r.ask(t, http.MethodPost, r.api+"/v1/jobs", r.tenant, body)
		require.Contains(t, []int{400, 409}, status, answer)
		r.refusals = append(r.refusals, answer)
	}
	for _, key := range []string{r.operator[:len(r.operator)-1] + "x", plantedKeyNear} {
		status, answer := r.ask(t, http.MethodGet, r.api+"/v1/jobs", key, "")
		require.Equal(t, http.StatusUnauthorized, status)
		r.refusals = append(r.refusals, answer)
	}
	_, answer := r.ask(t, http.MethodPost, r.api+"/login", "", "key="+r.operator+"x", "Content-Type", "application/x-www-form-urlencoded")
	r.refusals = append(r.refusals, answer)
}

// disturb has Redis refuse everybody for a while, and a provider refuse a key.
func (r *secretRun) disturb(t *testing.T) {
	t.Helper()
	_, err := r.producer.Enqueue(t.Context(), tasks.Job{ID: "KEY401", TaskType: "fast_summary", Input: plantedPrompt + " KEY401", MaxRetries: new(0)})
	require.NoError(t, err)
	r.eventually("the key is refused", func() bool { return r.result("KEY401").Status.Ended() })
	r.fails = append(r.fails, "KEY401")
	ctx, before := t.Context(), len(r.processes["worker"].log.text())
	require.NoError(t, r.redis.Do(ctx, "ACL", "SETUSER", "planted", "off").Err())
	require.NoError(t, r.redis.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
	r.eventually("the worker says so", func() bool { return strings.Contains(r.processes["worker"].log.text()[before:], "WRONGPASS") })
	_, answer := r.ask(t, http.MethodPost, r.api+"/v1/jobs", r.tenant, `{"task_type":"fast_summary","input":"`+plantedPrompt+`"}`)
	r.refusals = append(r.refusals, answer)
	output, _ := r.command("status").CombinedOutput()
	r.clean(t, "status without Redis", string(output))
	require.NoError(t, r.redis.Do(ctx, "ACL", "SETUSER", "planted", "on").Err())
	r.eventually("the producer serves again", func() bool {
		status, _ := r.ask(t, http.MethodGet, r.api+"/v1/jobs", r.operator, "")
		return status == http.StatusOK
	})
}

// checkStreams looks at what is told to operators, and at what was refused of the inbox, where the job itself may stand.
func (r *secretRun) checkStreams(t *testing.T) {
	t.Helper()
	streams, err := r.redis.Keys(t.Context(), "forebay:events*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, streams)
	for _, stream := range streams {
		entries, err := r.redis.XRange(t.Context(), stream, "-", "+").Result()
		require.NoError(t, err)
		require.NotEmpty(t, entries, stream)
		r.clean(t, stream, fmt.Sprint(entries))
	}
	entries, err := r.redis.XRange(t.Context(), "forebay:inbox:rejected", "-", "+").Result()
	require.NoError(t, err)
	for _, entry := range entries {
		delete(entry.Values, "job")
		r.clean(t, "reason of a refusal", fmt.Sprint(entry.Values))
	}
}

// checkRedis: secrets are in no key, whatever its type.
func (r *secretRun) checkRedis(t *testing.T) {
	t.Helper()
	keys, err := r.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	secrets := map[string]string{}
	for what, value := range r.planted.secrets {
		if what != "webhook path" { // the targets of jobs have to stand somewhere
			secrets[what] = value
		}
	}
	for _, key := range keys {
		dump, err := r.redis.Dump(t.Context(), key).Result()
		if err == nil {
			assert.Empty(t, leaks(key+dump, secrets), key)
		}
	}
}

// checkCommands looks at what the command line shows of a deployment, in both forms.
func (r *secretRun) checkCommands(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"status"},
		{"status", "--active"},
		{"doctor"},
		{"cost"},
		{"cost", "--by", "tenant"},
		{"queue", "list"},
		{"breaker", "list"},
		{"jobs", "list"},
		{"jobs", "list", "--status", "failed"},
		{"jobs", "list", "--status", "failed", "--group-by", "code"},
		{"webhooks", "targets"},
		{"keys", "list"},
		{"batch", "list"},
		{"batch", "status", r.batch},
		{"schedule", "list"},
		{"config", "check"},
		{"version"},
	} {
		for _, form := range [][]string{nil, {"--json"}} {
			output, _ := r.command(slices.Concat(args, form)...).CombinedOutput()
			require.NotEmpty(t, output, args)
			where := strings.Join(args, " ")
			require.NotContains(t, string(output), "unknown", args)
			switch args[0] {
			case "schedule":
				r.safe(t, where, string(output)) // it lists the jobs that it makes
			case "jobs", "batch", "webhooks":
				assert.Empty(t, leaks(string(output), r.planted.content), where)
				r.safe(t, where, string(output))
			default:
				r.clean(t, where, string(output))
			}
		}
	}
	r.checkWatch(t)
	broken := r.secretFile("broken.json", `{"task_type":"fast_summary","deadline":"`+plantedPrompt+`","input":"`+plantedPrompt)
	for _, args := range [][]string{
		{"enqueue", "--type", "nothing", "--input", plantedPrompt},
		{"enqueue", "--job", broken},
		{"enqueue", "--type", "fast_summary", "--input", plantedPrompt, "--id", "good"},
		{"enqueue", "--type", "fast_summary", "--input", plantedPrompt, "--redis", "redis://planted:" + plantedRedis + "@127.0.0.1:9"},
		{"status", "--redis", "redis://planted:" + plantedRedis + "x@" + r.server.Addr},
		{"status", "--redis", "redis://planted:" + plantedRedis + "@%%:" + r.server.Addr},
	} {
		output, err := r.command(args...).CombinedOutput()
		require.Error(t, err, args[0])
		r.clean(t, "error of "+args[0], string(output))
	}
	for _, args := range [][]string{{"get", "good"}, {"get", "REFUSE400"}, {"jobs", "show", "good"}, {"jobs", "show", "REFUSE400"}, {"webhooks", "list"}} {
		output, err := r.command(args...).CombinedOutput()
		require.NotEmpty(t, output, err)
		secrets := r.planted.secrets
		for what := range secrets {
			if what != "webhook path" {
				assert.Empty(t, leaks(string(output), map[string]string{what: secrets[what]}), args)
			}
		}
	}
}

// checkWatch looks at what a status that is watched writes.
func (r *secretRun) checkWatch(t *testing.T) {
	t.Helper()
	for _, form := range [][]string{nil, {"--json"}} {
		p, err := r.launch(append([]string{"status", "--watch", "--every", "200ms"}, form...)...)
		require.NoError(t, err)
		r.eventually("the status is written", func() bool { return strings.Contains(p.log.text(), "\n") })
		p.kill()
		r.clean(t, "status --watch", p.log.text())
	}
}

// contentPages show a job, a file, a webhook or what a schedule makes to those whose it is.
var contentPages = map[string]bool{
	"/v1/jobs/{id}": true, "/v1/jobs/{id}/result": true, "/v1/jobs/{id}/request": true, "/v1/jobs/{id}/events": true, "/v1/files/{id}/content": true,
	"/v1/schedules": true, "/v1/schedules/{name}": true, "/v1/webhooks/{id}": true,
}

// checkPages fetches every address that the HTTP interface's own document has, and the pages that are for people.
func (r *secretRun) checkPages(t *testing.T) {
	t.Helper()
	_, text := r.ask(t, http.MethodGet, r.api+"/openapi.json", r.operator, "")
	var document struct {
		Paths map[string]map[string]any
	}
	require.NoError(t, json.Unmarshal(bodyOf(text), &document))
	require.Greater(t, len(document.Paths), 15)
	asked := 0
	for path, methods := range document.Paths {
		if methods["get"] == nil {
			continue
		}
		asked++
		for _, id := range r.idsOf(path) {
			status, text := r.ask(t, http.MethodGet, r.api+regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(path, id), r.operator, "")
			assert.Less(t, status, 500, path)
			r.page(t, path, text)
		}
	}
	require.Greater(t, asked, 10)
	for _, path := range []string{
		"/", "/login", "/docs/", "/v1/jobs?status=failed", "/v1/jobs?group_by=code", "/v1/nothing/" + r.batch, "/v1/jobs/unknown",
		"/monitor", "/monitor/api/queues", "/monitor/api/servers", "/monitor/api/redis_info", "/monitor/api/queues/default",
	} {
		_, text := r.ask(t, http.MethodGet, r.api+path, r.operator, "")
		r.page(t, path, text)
	}
	for _, state := range []string{"pending_tasks", "active_tasks", "scheduled_tasks", "retry_tasks", "archived_tasks", "completed_tasks"} {
		_, text := r.ask(t, http.MethodGet, r.api+"/monitor/api/queues/default/"+state, r.operator, "")
		r.safe(t, "monitor: "+state, text) // it shows what tasks hold
	}
}

func (r *secretRun) page(t *testing.T, path, text string) {
	t.Helper()
	secrets := map[string]string{}
	for what, value := range r.planted.secrets {
		if what != "webhook path" || !strings.HasPrefix(path, "/v1/webhook") && !contentPages[path] {
			secrets[what] = value
		}
	}
	assert.Empty(t, leaks(text, secrets), path)
	if !contentPages[path] {
		assert.Empty(t, leaks(text, r.planted.content), path)
	}
}

// idsOf are what may stand in an address's place.
func (r *secretRun) idsOf(path string) []string {
	switch {
	case !strings.Contains(path, "{"):
		return []string{""}
	case strings.HasPrefix(path, "/v1/jobs"):
		return slices.Concat(r.succeeds, r.fails)
	case strings.HasPrefix(path, "/v1/files"):
		return []string{r.file, r.output}
	case strings.HasPrefix(path, "/v1/batches"):
		return []string{r.batch}
	case strings.HasPrefix(path, "/v1/schedules"):
		return []string{"often"}
	case strings.HasPrefix(path, "/v1/models"):
		return []string{"fast_summary"}
	}
	return []string{"unknown"}
}
