package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
)

const (
	callerSpan  = "b7ad6b7169203331"
	callerState = "vendor=opaque"
	// tracedPrompt is a word of the prompts, which the answers repeat, plantedQuery one of the targets of webhooks, and
	// plantedKey what the collector asks for.
	tracedPrompt = "Zwiebelturm"
	plantedQuery = "planted-in-the-query"
	plantedKey   = "planted-collector-key"
)

// callerTrace is the n-th trace of whoever hands jobs in.
func callerTrace(n int) (id, parent string) {
	id = fmt.Sprintf("0af7651916cd43dd8448eb211c80%04x", n)
	return id, "00-" + id + "-" + callerSpan + "-01"
}

// traced is a deployment whose spans go to a collector, and whose webhooks to a receiver that takes each at its second
// attempt.
type traced struct {
	*deployment
	spans   *spanCollector
	hooks   *twiceReceiver
	secrets []string
	address string // of the HTTP interface
}

func deployTraced(t *testing.T, s site, more string) *traced {
	t.Helper()
	c := &traced{spans: newSpanCollector(t), hooks: newTwiceReceiver(t)}
	s.env = []string{"OTEL_BSP_SCHEDULE_DELAY=100", "COLLECTOR_KEY=" + plantedKey}
	c.deployment = deploy(t, s)
	c.secrets = c.signs(t, c.hooks.url)
	c.appendConfig(fmt.Sprintf("\ntracing:\n  endpoint: %q\n  service_name: queue-of-tests\n  headers: {x-collector-key: {env: COLLECTOR_KEY}}\n%s", c.spans.url, more))
	return c
}

// startProducer starts a producer and waits until it serves.
func (c *traced) startProducer() *process {
	c.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(c.t, err)
	c.address = listener.Addr().String()
	require.NoError(c.t, listener.Close())
	producer, err := c.launch("producer", "--listen", c.address, "--log-format", "json")
	require.NoError(c.t, err)
	c.t.Cleanup(func() {
		producer.kill()
		if c.t.Failed() {
			c.t.Logf("log of the producer:\n%s", lastLines(producer.log.text(), 20))
		}
	})
	c.eventually("a producer serves", func() bool {
		answer, err := http.Get("http://" + c.address + "/readyz")
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusOK
	})
	return producer
}

// job is a job of an id, with a webhook.
func (c *traced) job(id string) string {
	return fmt.Sprintf(`{"id":%q,"task_type":"fast_summary","input":"%s. %s","webhook":{"url":"%s?token=%s"}}`,
		id, tracedPrompt, text, c.hooks.url, plantedQuery)
}

// post hands a body in over HTTP, with headers of a trace.
func (c *traced) post(path, body, parent, state string) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "http://"+c.address+path, strings.NewReader(body))
	require.NoError(c.t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Traceparent", parent)
	if state != "" {
		request.Header.Set("Tracestate", state)
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(c.t, err)
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	require.NoError(c.t, err)
	require.Less(c.t, answer.StatusCode, 300, "%s", said)
}

// complete waits until a trace has as many spans of a name.
func (c *traced) complete(trace, name string, n int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("trace %s has %d spans %q", trace, n, name), func() bool { return len(named(c.spans.trace(trace), name)) >= n })
}

// requireWhole checks that a job's trace leads from who handed it in to both attempts of its webhook, over two processes,
// and returns its spans. The parent is the span of whoever made the enqueueing.
func (c *traced) requireWhole(t *testing.T, trace, job string) (spans []collectedSpan, enqueue collectedSpan) {
	t.Helper()
	spans = c.spans.trace(trace)
	known := map[string]bool{callerSpan: true}
	for _, span := range spans {
		known[span.id()] = true
	}
	for _, span := range spans {
		assert.True(t, known[span.parent()], "%s has a parent of this trace", span.GetName())
		assert.Equal(t, "queue-of-tests", span.service)
	}
	enqueue = only(t, spans, "enqueue fast_summary")
	assert.Equal(t, tracev1.Span_SPAN_KIND_PRODUCER, enqueue.GetKind())
	assert.Equal(t, job, enqueue.attributes()["forebay.job.id"])
	last := collectedSpan{}
	for _, delivery := range named(spans, "job fast_summary") {
		assert.Equal(t, enqueue.id(), delivery.parent())
		assert.Equal(t, tracev1.Span_SPAN_KIND_CONSUMER, delivery.GetKind())
		assert.Equal(t, "worker", delivery.process)
		last = delivery
	}
	assert.Equal(t, last.id(), only(t, spans, "commit").parent())
	told := named(spans, "webhook job.succeeded")
	require.Len(t, told, 2, "it was refused once")
	for _, hook := range told {
		assert.Equal(t, last.id(), hook.parent())
		assert.Equal(t, tracev1.Span_SPAN_KIND_CLIENT, hook.GetKind())
	}
	assert.NotEmpty(t, told[0].attributes()["error.type"])
	assert.Empty(t, told[1].attributes()["error.type"])
	var carried []string
	for _, one := range c.hooks.deliveries() {
		if one.event(t).Data.ID == job {
			carried = append(carried, one.Headers["traceparent"])
		}
	}
	assert.Equal(t, []string{"00-" + trace + "-" + told[0].id() + "-01", "00-" + trace + "-" + told[1].id() + "-01"}, carried)
	return spans, enqueue
}

// One trace leads from whoever hands a job in, by whatever way, to the webhook: over two processes, retries and a refused
// webhook. Nothing of prompts, answers and secrets is in it.
func TestOneTraceFromTheRequestToTheWebhook(t *testing.T) {
	t.Parallel()
	c := deployTraced(t, site{}, "")
	producer := c.startProducer()
	worker := c.startWorkers(1)[0]

	overHTTP, parent := callerTrace(1)
	c.post("/v1/jobs", c.job("over-http"), parent, callerState)
	fromInbox, parent := callerTrace(2)
	require.NoError(t, c.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: c.store.Keys().Inbox(), Values: []any{
		"job", c.job("from-inbox"), "traceparent", parent, "tracestate", callerState,
	}}).Err())
	fromShell, parent := callerTrace(3)
	shell := c.command("enqueue", "--type", "fast_summary", "--id", "from-shell", "--input", tracedPrompt, "--webhook", c.hooks.url)
	shell.Env = append(shell.Env, "TRACEPARENT="+parent, "TRACESTATE="+callerState)
	output, err := shell.CombinedOutput()
	require.NoError(t, err, "%s", output)

	for _, trace := range []string{overHTTP, fromInbox, fromShell} {
		c.complete(trace, "webhook job.succeeded", 2)
	}
	retried, parent := callerTrace(4)
	require.NoError(t, c.sim.Region("first").SetOutage("500"))
	c.post("/v1/jobs", "["+c.job("retried")+"]", parent, "")
	c.eventually("the job is to be repeated", func() bool { return c.result("retried").Status == tasks.StatusRetrying })
	c.sim.Region("first").ClearOutage()
	c.complete(retried, "webhook job.succeeded", 2)
	for _, process := range []*process{producer, worker} {
		require.NoError(t, process.cmd.Process.Signal(syscall.SIGTERM))
		<-process.ended
		require.NoError(t, process.err)
	}

	spans, enqueue := c.requireWhole(t, overHTTP, "over-http")
	request := only(t, spans, "POST /v1/jobs")
	assert.Equal(t, callerSpan, request.parent())
	assert.Equal(t, tracev1.Span_SPAN_KIND_SERVER, request.GetKind())
	assert.Equal(t, callerState, request.GetTraceState())
	assert.Equal(t, request.id(), enqueue.parent())
	assert.Equal(t, []string{"producer", "producer"}, []string{request.process, enqueue.process})
	requireChat(t, spans)
	requireLogged(t, worker.log.text(), "over-http", overHTTP, only(t, spans, "job fast_summary").id())

	spans, enqueue = c.requireWhole(t, fromInbox, "from-inbox")
	assert.Equal(t, callerSpan, enqueue.parent())
	requireChat(t, spans)
	_, enqueue = c.requireWhole(t, fromShell, "from-shell")
	assert.Equal(t, callerSpan, enqueue.parent())
	assert.Equal(t, "enqueue", enqueue.process)

	spans, _ = c.requireWhole(t, retried, "retried")
	assert.GreaterOrEqual(t, len(named(spans, "job fast_summary")), 2, "one for each delivery")
	calls := named(spans, "chat gemini-2.5-flash")
	require.NotEmpty(t, calls)
	assert.Equal(t, string(tasks.ClassUnavailable), calls[0].attributes()["error.type"])
	assert.Equal(t, tracev1.Status_STATUS_CODE_ERROR, calls[0].GetStatus().GetCode())
	assert.Empty(t, calls[len(calls)-1].attributes()["error.type"])
	c.requireNothingPlanted(t)
}

// requireChat checks the span of the one call of a trace by the conventions for generative AI.
func requireChat(t *testing.T, spans []collectedSpan) {
	t.Helper()
	chat := only(t, spans, "chat gemini-2.5-flash")
	assert.Equal(t, only(t, spans, "job fast_summary").id(), chat.parent())
	assert.Equal(t, tracev1.Span_SPAN_KIND_CLIENT, chat.GetKind())
	found := chat.attributes()
	assert.Equal(t, "chat", found["gen_ai.operation.name"])
	assert.Equal(t, "gemini-2.5-flash", found["gen_ai.request.model"])
	assert.Equal(t, "127.0.0.1", found["server.address"])
	for _, name := range []string{
		"gen_ai.provider.name", "gen_ai.response.model", "gen_ai.response.id", "gen_ai.response.finish_reasons", "gen_ai.request.max_tokens",
		"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "server.port", "forebay.endpoint", "forebay.cost_usd",
	} {
		assert.NotEmpty(t, found[name], name)
	}
	assert.NotContains(t, found, "gen_ai.input.messages")
	assert.NotContains(t, found, "gen_ai.output.messages")
}

// requireLogged checks that the line of a job's end says in which trace it was.
func requireLogged(t *testing.T, log, job, trace, span string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"job ended"`) && strings.Contains(line, `"job":"`+job+`"`) {
			assert.Contains(t, line, `"trace_id":"`+trace+`","span_id":"`+span+`"`)
			return
		}
	}
	assert.Fail(t, "no line of the job's end")
}

// requireNothingPlanted checks that no span holds a prompt, an answer or a secret.
func (c *traced) requireNothingPlanted(t *testing.T) {
	t.Helper()
	require.True(t, c.spans.holds("over-http"), "it looks where the spans are")
	for _, planted := range append([]string{tracedPrompt, "turbines", plantedQuery, plantedKey, "whsec_"}, c.secrets...) {
		assert.False(t, c.spans.holds(planted), "%s", planted)
	}
	for _, key := range c.spans.keys {
		assert.Equal(t, plantedKey, key, "the configured header is sent")
	}
}

// A job whose worker is killed in the middle of its call goes on in its trace with another worker; what cannot be read as
// a trace's context is no reason to refuse a job.
func TestATraceOutlivesItsWorker(t *testing.T) {
	t.Parallel()
	c := deployTraced(t, site{
		callTimeout: 5 * time.Second,
		regions:     []simulator.RegionConfig{{Name: "first", Latency: simulator.Distribution{Min: 2 * time.Second, Max: 2 * time.Second}}},
	}, "  content: on\n")
	c.startProducer()
	scheduler, err := c.launch("scheduler", "--log-format", "json")
	require.NoError(t, err)
	t.Cleanup(scheduler.kill)
	first := c.startWorkers(1)[0]
	trace, parent := callerTrace(5)
	c.post("/v1/jobs", c.job("killed"), parent, callerState)
	c.eventually("the call is out", func() bool { return c.asked() > 0 })
	first.kill()
	// What was written of it is what it is taken up by.
	kept := c.redis.HMGet(t.Context(), c.store.Keys().Job("killed"), "traceparent", "tracestate").Val()
	require.Contains(t, kept[0], trace)
	require.Equal(t, callerState, kept[1])
	for i, malformed := range []string{"nonsense", "00-" + strings.Repeat("0", 32) + "-" + callerSpan + "-01", strings.Repeat("a", 4000)} {
		c.post("/v1/jobs", fmt.Sprintf(`{"id":"malformed-%d","task_type":"fast_summary","input":"text"}`, i), malformed, strings.Repeat("x", 4000))
	}
	c.startWorkers(1)
	c.complete(trace, "webhook job.succeeded", 2)
	spans, _ := c.requireWhole(t, trace, "killed")
	delivery := only(t, spans, "job fast_summary")
	assert.Equal(t, `int_value:2`, strings.ReplaceAll(delivery.attributes()["forebay.delivery"], " ", ""))
	chat := only(t, spans, "chat gemini-2.5-flash")
	assert.Equal(t, delivery.id(), chat.parent())
	assert.Contains(t, delivery.events(), "attempt orphaned")
	// Content is on.
	assert.Contains(t, chat.attributes()["gen_ai.input.messages"], tracedPrompt)
	assert.NotEmpty(t, chat.attributes()["gen_ai.output.messages"])
	assert.False(t, c.spans.holds(plantedQuery))
	c.await(time.Minute, "malformed-0", "malformed-1", "malformed-2")
}

// A collector that does not answer holds up neither a job nor a process's end.
func TestACollectorThatIsAway(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // which takes connections, and never answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	d := deploy(t, site{env: []string{"OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_EXPORTER_OTLP_ENDPOINT=http://user:" + plantedKey + "@" + listener.Addr().String()}})
	worker := d.startWorkers(1)[0]
	ids := d.enqueueJobs("job", 50)
	d.await(time.Minute, ids...)
	signalled := time.Now()
	d.stopWorkers(syscall.SIGTERM)
	assert.Less(t, time.Since(signalled), 20*time.Second)
	assert.NotContains(t, worker.log.text(), plantedKey)
}
