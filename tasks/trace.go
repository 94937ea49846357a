package tasks

// The names of W3C's trace context: of HTTP headers, of the fields of a record and of an entry of the inbox, and of the
// headers of asynq's tasks.
const (
	TraceParentField = "traceparent"
	TraceStateField  = "tracestate"
)

// TraceContext is W3C's trace context (https://www.w3.org/TR/trace-context/), as its two headers write it. It says which
// trace a job belongs to, and is no part of what the job asks for. The zero value is none.
type TraceContext struct {
	// Parent is the traceparent, State the tracestate, which may be empty.
	Parent, State string
}

// Headers are the context as headers of a task; nil where there is none.
func (t TraceContext) Headers() map[string]string {
	if t.Parent == "" {
		return nil
	}
	headers := map[string]string{TraceParentField: t.Parent}
	if t.State != "" {
		headers[TraceStateField] = t.State
	}
	return headers
}
