package tracing

import (
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
)

// Line is what a line of the log says of whose it is: `event.EmbedObject(line)` adds the fields job, webhook, trace_id and
// span_id, those that there are.
type Line struct {
	Job, Webhook string
	Span         trace.SpanContext
}

// MarshalZerologObject implements zerolog.LogObjectMarshaler.
func (l Line) MarshalZerologObject(event *zerolog.Event) {
	if l.Job != "" {
		event.Str("job", l.Job)
	}
	if l.Webhook != "" {
		event.Str("webhook", l.Webhook)
	}
	if l.Span.IsValid() {
		event.Str("trace_id", l.Span.TraceID().String()).Str("span_id", l.Span.SpanID().String())
	}
}
