package httpapi

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/forebay-queue/forebay/tasks/tracing"
)

// traced has a request go on in the trace of its headers. Those that change something have a span; of the others, which
// mostly ask how a job stands, there would be one for every look.
func (a *API) traced(r *http.Request) (*http.Request, trace.Span) {
	ctx := tracing.With(r.Context(), tracing.FromHeader(r.Header))
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		return r.WithContext(ctx), noop.Span{}
	}
	route := a.routeOf(r)
	method := r.Method
	if !knownMethod(method) {
		method = "HTTP" // as the conventions have it: a method may be anything
	}
	ctx, span := tracing.Start(ctx, method+" "+route, trace.SpanKindServer)
	tracing.Set(span, func() []attribute.KeyValue {
		return []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(route)}
	})
	return r.WithContext(ctx), span
}

// answered says on the span how the request was answered. What its sender did wrong is no fault of the server's.
func answered(span trace.Span, w *answerWriter) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	tracing.Set(span, func() []attribute.KeyValue { return []attribute.KeyValue{semconv.HTTPResponseStatusCode(status)} })
	if status >= http.StatusInternalServerError {
		tracing.Fail(span, http.StatusText(status))
	}
	span.End()
}
