package tracing_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestRead(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ parent, state, wantParent, wantState string }{
		"both":                   {parent, "a=b,c=d", parent, "a=b,c=d"},
		"without a state":        {parent, "", parent, ""},
		"not sampled":            {parent[:53] + "00", "", parent[:53] + "00", ""},
		"a later version":        {"cc" + parent[2:] + "-what-it-adds", "", parent, ""},
		"nothing":                {"", "a=b", "", ""},
		"no context":             {"nonsense", "a=b", "", ""},
		"upper case":             {strings.ToUpper(parent), "", "", ""},
		"a trace of zeros":       {"00-" + strings.Repeat("0", 32) + parent[35:], "", "", ""},
		"a span of zeros":        {parent[:36] + strings.Repeat("0", 16) + "-01", "", "", ""},
		"version ff":             {"ff" + parent[2:], "", "", ""},
		"too long":               {parent + "-" + strings.Repeat("a", 200), "", "", ""},
		"a state that is none":   {parent, "no state", parent, ""},
		"a state that is longer": {parent, "a=" + strings.Repeat("b", 600), parent, ""},
		"line breaks":            {parent + "\r\nx: y", "a=b\r\nx: y", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tasks.TraceContext{Parent: row.wantParent, State: row.wantState}, tracing.Read(row.parent, row.state))
		})
	}
}

func TestFromHeader(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	assert.Zero(t, tracing.FromHeader(header))
	header.Add("Traceparent", parent)
	header.Add("Tracestate", "a=b")
	header.Add("Tracestate", "c=d")
	read := tracing.FromHeader(header)
	assert.Equal(t, tasks.TraceContext{Parent: parent, State: "a=b,c=d"}, read)
	sent := http.Header{"Traceparent": {"older"}, "Tracestate": {"older"}}
	tracing.SetHeader(sent, tasks.TraceContext{})
	assert.Equal(t, "older", sent.Get("Traceparent"))
	tracing.SetHeader(sent, tasks.TraceContext{Parent: parent})
	assert.Equal(t, http.Header{"Traceparent": {parent}}, sent)
	header.Add("Traceparent", parent)
	assert.Zero(t, tracing.FromHeader(header), "two of them are none")
}

// Where nothing is exported the context is carried through as it came.
func TestCarriedWithoutAnExporter(t *testing.T) {
	t.Parallel()
	job := tasks.Job{ID: "job", TaskType: "fast_summary", Trace: tasks.TraceContext{Parent: parent, State: "a=b"}}
	span := tracing.Enqueue(t.Context(), &job)
	span.End()
	assert.Equal(t, tasks.TraceContext{Parent: parent, State: "a=b"}, job.Trace)
	assert.False(t, span.IsRecording())
	ctx, span := tracing.Start(tracing.With(context.Background(), job.Trace), "job", trace.SpanKindConsumer)
	tracing.Set(span, func() []attribute.KeyValue { panic("nobody sees them") })
	assert.Equal(t, job.Trace, tracing.Of(ctx))
	assert.Equal(t, job.Trace, tracing.OfSpan(span))
	none := tasks.Job{ID: "job"}
	tracing.Enqueue(t.Context(), &none).End()
	assert.Zero(t, none.Trace)
	assert.Nil(t, none.Trace.Headers())
}

func TestContentOnlyWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	const planted = "Zwiebelturm"
	request := []byte(`{"messages":[{"role":"user","content":"` + planted + `"}],"max_tokens":7,"temperature":0.5,"user":"` + planted + `"}`)
	answer := []byte(`{"id":"chatcmpl-1","model":"mini","choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"` + planted + `"}}]}`)
	for _, one := range append(tracing.Request(request), tracing.Answer(answer)...) {
		assert.NotContains(t, one.Value.String(), planted, "%s", one.Key)
	}
	// A provider that repeats the prompt where a name belongs is not believed.
	strange := []byte(`{"id":"the prompt said ` + planted + `","model":"` + strings.Repeat(planted, 30) + `","choices":[{"finish_reason":"said ` + planted + `"}]}`)
	assert.Empty(t, tracing.Answer(strange))
	asked, answered := tracing.Asked(tasks.KindChat, request), tracing.Answered(answer)
	require.Len(t, asked, 1)
	require.Len(t, answered, 1)
	assert.JSONEq(t, `[{"role":"user","parts":[{"type":"text","content":"`+planted+`"}]}]`, asked[0].Value.AsString())
	assert.JSONEq(t, `[{"role":"assistant","finish_reason":"stop","parts":[{"type":"text","content":"`+planted+`"}]}]`, answered[0].Value.AsString())
	embedded := tracing.Asked(tasks.KindEmbedding, []byte(`{"input":["`+planted+`","b"]}`))
	require.Len(t, embedded, 1)
	assert.Contains(t, embedded[0].Value.AsString(), planted)
	for _, broken := range []string{"", "null", "[]", `{"messages":7}`, `{"messages":[{"content":{"a":1}}],"choices":[{"message":{"content":7}}]}`} {
		tracing.Request([]byte(broken))
		tracing.Answer([]byte(broken))
		tracing.Asked(tasks.KindChat, []byte(broken))
		tracing.Answered([]byte(broken))
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://user:secret@api.example.com/v1?key=secret": "api.example.com 443",
		"http://127.0.0.1:8000/v1":                          "127.0.0.1 8000",
		"//hooks.example.com":                               "hooks.example.com",
		"://":                                               "",
	} {
		var words []string
		for _, one := range tracing.Server(address) {
			words = append(words, one.Value.String())
		}
		assert.Equal(t, want, strings.Join(words, " "))
	}
}

// BenchmarkWithoutAnExporter is all that a job costs where nothing is exported: the spans of its way, without and with a
// trace that it brings. A worker spends some 147,000 ns of processor time on a job (docs/benchmarks.md): it is 1 % of that.
func BenchmarkWithoutAnExporter(b *testing.B) {
	for name, carried := range map[string]tasks.TraceContext{"no trace": {}, "a trace": {Parent: parent, State: "a=b"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			request := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("text ", 200) + `"}]}`)
			for b.Loop() {
				job := tasks.Job{ID: "job", TaskType: "fast_summary", Trace: carried}
				tracing.Enqueue(b.Context(), &job).End()
				ctx, delivery := tracing.Start(tracing.With(b.Context(), job.Trace), "job fast_summary", trace.SpanKindConsumer)
				for _, name := range []string{"chat mini", "commit", "webhook job.succeeded"} {
					_, span := tracing.Start(ctx, name, trace.SpanKindClient)
					tracing.Set(span, func() []attribute.KeyValue { return tracing.Request(request) })
					span.End()
				}
				tracing.OfSpan(delivery)
				delivery.End()
			}
		})
	}
}
