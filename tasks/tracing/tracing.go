// Package tracing carries W3C's trace context with jobs, and makes the spans of their way: from whoever hands them in,
// through the queue, to the webhook.
//
// The context is always carried, also where nothing is exported. Spans are made by OpenTelemetry's global provider: that of
// the program that embeds Forebay, or the one that Export sets. Without either they cost next to nothing, and a span's
// context is that of its parent.
package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebay-queue/forebay/tasks"
)

// Scope names what makes the spans.
const Scope = "github.com/forebay-queue/forebay"

// The longest headers that are read. W3C's traceparent has 55 characters today, and asks that 512 of tracestate be carried.
const (
	maxParent = 128
	maxState  = 512
)

// tracer stands before the global provider, also before one that is set later.
var tracer = otel.Tracer(Scope, trace.WithSchemaURL(semconv.SchemaURL))

var format propagation.TraceContext

// carrier is a tasks.TraceContext as the propagator reads and writes it.
type carrier tasks.TraceContext

// Get implements propagation.TextMapCarrier.
func (c *carrier) Get(key string) string {
	switch key {
	case tasks.TraceParentField:
		return c.Parent
	case tasks.TraceStateField:
		return c.State
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c *carrier) Set(key, value string) {
	switch key {
	case tasks.TraceParentField:
		c.Parent = value
	case tasks.TraceStateField:
		c.State = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (c *carrier) Keys() []string { return []string{tasks.TraceParentField, tasks.TraceStateField} }

// Of is the trace that a context is in; the zero value where it is in none.
func Of(ctx context.Context) tasks.TraceContext {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return tasks.TraceContext{}
	}
	var c carrier
	format.Inject(ctx, &c)
	return tasks.TraceContext(c)
}

// OfSpan is Of for a span.
func OfSpan(span trace.Span) tasks.TraceContext {
	return Of(trace.ContextWithSpan(context.Background(), span))
}

// With is a context in the trace that was carried here. One that cannot be read changes nothing.
func With(ctx context.Context, carried tasks.TraceContext) context.Context {
	if carried.Parent == "" || len(carried.Parent) > maxParent {
		return ctx
	}
	if len(carried.State) > maxState {
		carried.State = "" // the trace goes on without it
	}
	c := carrier(carried)
	return format.Extract(ctx, &c)
}

// Read is a trace context that came from outside; the zero value where it cannot be read: nothing is refused for it.
func Read(parent, state string) tasks.TraceContext {
	return Of(With(context.Background(), tasks.TraceContext{Parent: parent, State: state}))
}

// FromHeader is the context of a request. Several tracestates are one list.
func FromHeader(header http.Header) tasks.TraceContext {
	parents := header.Values(tasks.TraceParentField)
	if len(parents) != 1 {
		return tasks.TraceContext{}
	}
	state := ""
	for i, value := range header.Values(tasks.TraceStateField) {
		if i > 0 {
			state += ","
		}
		state += value
	}
	return Read(parents[0], state)
}

// FromTask is the context of a task's headers.
func FromTask(headers map[string]string) tasks.TraceContext {
	if len(headers) == 0 {
		return tasks.TraceContext{}
	}
	return Read(headers[tasks.TraceParentField], headers[tasks.TraceStateField])
}

// SetHeader writes the context into a request.
func SetHeader(header http.Header, carried tasks.TraceContext) {
	if carried.Parent == "" {
		return
	}
	header.Set(tasks.TraceParentField, carried.Parent)
	if carried.State != "" {
		header.Set(tasks.TraceStateField, carried.State)
	} else {
		header.Del(tasks.TraceStateField)
	}
}

// ofKind are the options of spans that have none but their kind: they are made once, as spans are begun many times a job.
var ofKind = func() (made [trace.SpanKindConsumer + 1][]trace.SpanStartOption) {
	for kind := range made {
		made[kind] = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKind(kind))}
	}
	return made
}()

// Start begins a span. Attributes are best set behind Set.
func Start(ctx context.Context, name string, kind trace.SpanKind, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if len(options) == 0 {
		return tracer.Start(ctx, name, ofKind[kind]...)
	}
	return tracer.Start(ctx, name, append(options, trace.WithSpanKind(kind))...)
}

// Set sets attributes of a span that somebody will see: they are made only then.
func Set(span trace.Span, attributes func() []attribute.KeyValue) {
	if span.IsRecording() {
		span.SetAttributes(attributes()...)
	}
}

// Fail says that what a span stands for has failed, with the word for why. Texts of errors are no part of a trace: a
// provider may quote the prompt in them.
func Fail(span trace.Span, word string) {
	if span.IsRecording() {
		span.SetStatus(codes.Error, word)
		span.SetAttributes(semconv.ErrorTypeKey.String(word))
	}
}
