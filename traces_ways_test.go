package main_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// all are all spans that a filter lets through.
func (c *spanCollector) all(wanted func(collectedSpan) bool) []collectedSpan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.kept), func(s collectedSpan) bool { return !wanted(s) })
}

// Whatever way a job comes in by, its delivery is in the trace of whoever sent it; a member of a batch and a tick of a
// schedule have traces of their own.
func TestEveryWayInCarriesTheTrace(t *testing.T) {
	t.Parallel()
	c := deployTraced(t, site{}, `
schedules:
  - {name: often, cron: "@every 1s", job: {task_type: fast_summary, input: text}}
`)
	c.startProducer()
	c.startWorkers(1)
	for name, way := range map[string]func(t *testing.T, trace, parent string){
		"chat completions": func(t *testing.T, trace, parent string) {
			c.post("/v1/chat/completions", `{"model":"fast_summary","messages":[{"role":"user","content":"text"}]}`, parent, callerState)
			c.requireUnder(t, trace, "POST /v1/chat/completions", "chat gemini-2.5-flash")
		},
		"embeddings": func(t *testing.T, trace, parent string) {
			c.post("/v1/embeddings", `{"model":"text-embedding-3-small","input":"text"}`, parent, callerState)
			c.requireUnder(t, trace, "POST /v1/embeddings", "embeddings text-embedding-3-small")
			found := only(t, c.spans.trace(trace), "embeddings text-embedding-3-small").attributes()
			assert.Equal(t, "embeddings", found["gen_ai.operation.name"])
			assert.NotEmpty(t, found["gen_ai.usage.input_tokens"])
		},
		"batches": func(t *testing.T, trace, parent string) { c.requireBatchLinked(t, trace, parent) },
		"the client, over Redis": func(t *testing.T, trace, parent string) {
			ctx := tracing.With(t.Context(), tasks.TraceContext{Parent: parent, State: callerState})
			_, err := c.producer.Enqueue(ctx, tasks.Job{ID: "of-the-client", TaskType: "fast_summary", Input: "text"})
			require.NoError(t, err)
			c.complete(trace, "job fast_summary", 1)
			delivery := only(t, c.spans.trace(trace), "job fast_summary")
			assert.Equal(t, callerSpan, delivery.parent(), "this process has no provider: it only carries the context on")
			assert.Equal(t, callerState, delivery.GetTraceState())
		},
		"the client, over HTTP": func(t *testing.T, trace, parent string) {
			client, err := producer.NewHTTP(producer.HTTPConfig{URL: "http://" + c.address})
			require.NoError(t, err)
			_, err = client.Enqueue(tracing.With(t.Context(), tasks.TraceContext{Parent: parent}), tasks.Job{ID: "of-the-http-client", TaskType: "fast_summary", Input: "text"})
			require.NoError(t, err)
			c.requireUnder(t, trace, "POST /v1/jobs", "job fast_summary")
		},
		"a schedule": func(t *testing.T, _, _ string) {
			c.startSchedulers(1)
			ticks := func() []collectedSpan {
				return c.spans.all(func(s collectedSpan) bool { return s.process == "scheduler" && s.GetName() == "enqueue fast_summary" })
			}
			c.eventually("two ticks are seen", func() bool { return len(ticks()) >= 2 })
			tick := ticks()[0]
			assert.Empty(t, tick.parent())
			assert.NotEqual(t, tick.GetTraceId(), ticks()[1].GetTraceId(), "a trace for each")
			c.complete(hex.EncodeToString(tick.GetTraceId()), "job fast_summary", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			trace, parent := callerTrace(100 + len(name))
			way(t, trace, parent)
		})
	}
}

// requireUnder waits until a trace holds a span of the way in below the caller's, and one of the worker.
func (c *traced) requireUnder(t *testing.T, trace, first, last string) {
	t.Helper()
	c.complete(trace, last, 1)
	c.complete(trace, first, 1)
	assert.Equal(t, callerSpan, only(t, c.spans.trace(trace), first).parent())
	assert.Equal(t, "worker", only(t, c.spans.trace(trace), last).process)
}

// requireBatchLinked has a batch of two lines made in a trace: each line has a trace of its own, linked to the batch's.
func (c *traced) requireBatchLinked(t *testing.T, trace, parent string) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	require.NoError(t, form.WriteField("purpose", "batch"))
	part, err := form.CreateFormFile("file", "lines.jsonl")
	require.NoError(t, err)
	const line = `{"custom_id":"ID","method":"POST","url":"/v1/chat/completions","body":{"model":"fast_summary","messages":[{"role":"user","content":"text"}]}}` + "\n"
	_, err = part.Write([]byte(strings.ReplaceAll(line, "ID", "a") + strings.ReplaceAll(line, "ID", "b")))
	require.NoError(t, err)
	require.NoError(t, form.Close())
	answer, err := http.Post("http://"+c.address+"/v1/files", form.FormDataContentType(), &body)
	require.NoError(t, err)
	defer answer.Body.Close()
	var file struct{ ID string }
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&file))
	c.post("/v1/batches", `{"input_file_id":"`+file.ID+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`, parent, "")

	c.complete(trace, "POST /v1/batches", 1)
	made := only(t, c.spans.trace(trace), "POST /v1/batches")
	linked := func() []collectedSpan {
		return c.spans.all(func(s collectedSpan) bool {
			return len(s.GetLinks()) == 1 && bytes.Equal(s.GetLinks()[0].GetTraceId(), made.GetTraceId())
		})
	}
	c.eventually("the lines are enqueued", func() bool { return len(linked()) == 2 })
	for _, enqueue := range linked() {
		assert.True(t, strings.HasPrefix(enqueue.GetName(), "enqueue "))
		assert.Equal(t, made.GetSpanId(), enqueue.GetLinks()[0].GetSpanId())
		own := hex.EncodeToString(enqueue.GetTraceId())
		assert.NotEqual(t, trace, own)
		c.complete(own, "chat gemini-2.5-flash", 1)
	}
	assert.NotEqual(t, linked()[0].GetTraceId(), linked()[1].GetTraceId())
	c.complete(trace, "webhook batch.completed", 2) // of the subscription; refused once
}

// Where nothing is recorded, or nothing is exported at all, the trace goes through to the webhook all the same.
func TestTheTraceGoesThroughUnrecorded(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]string{"not sampled": "00", "not exported": "01"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &traced{spans: newSpanCollector(t), hooks: newTwiceReceiver(t), deployment: deploy(t, site{})}
			c.signs(t, c.hooks.url)
			if flags == "00" {
				c.appendConfig("\ntracing: {endpoint: \"" + c.spans.url + "\"}\n")
			}
			c.startProducer()
			worker := c.startWorkers(1)[0]
			trace, parent := callerTrace(300)
			c.post("/v1/jobs", c.job("unrecorded"), strings.TrimSuffix(parent, "01")+flags, callerState)
			c.eventually("the webhook is told twice", func() bool { return len(c.hooks.deliveries()) == 2 })
			for _, sent := range c.hooks.deliveries() {
				carried := sent.Headers["traceparent"]
				assert.True(t, strings.HasPrefix(carried, "00-"+trace+"-") && strings.HasSuffix(carried, "-"+flags), carried)
				assert.Equal(t, callerState, sent.Headers["tracestate"])
			}
			assert.Empty(t, c.spans.trace(trace))
			assert.Contains(t, worker.log.text(), `"trace_id":"`+trace+`"`, "the log has it too")
		})
	}
}
