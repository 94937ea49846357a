package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebay-queue/forebay/tasks"
)

// The attributes that are Forebay's own.
const (
	KeyJob      = attribute.Key("forebay.job.id")
	KeyTaskType = attribute.Key("forebay.task_type")
	KeyTenant   = attribute.Key("forebay.tenant")
	KeyRun      = attribute.Key("forebay.run")
	KeyDelivery = attribute.Key("forebay.delivery")
	KeyBatch    = attribute.Key("forebay.batch.id")
	KeyStatus   = attribute.Key("forebay.status")
	KeyCode     = attribute.Key("forebay.code")
	KeyCost     = attribute.Key("forebay.cost_usd")
	KeyEndpoint = attribute.Key("forebay.endpoint")
	KeyAccount  = attribute.Key("forebay.account")
	KeyRegion   = attribute.Key("forebay.region")
	KeyModel    = attribute.Key("forebay.model")
	KeyTier     = attribute.Key("forebay.tier")
	KeyReason   = attribute.Key("forebay.reason")
	KeyLimit    = attribute.Key("forebay.limit")
	KeyUntil    = attribute.Key("forebay.until")
	KeyCreated  = attribute.Key("forebay.created")
	KeyBilled   = attribute.Key("forebay.maybe_billed")
	KeyWebhook  = attribute.Key("forebay.webhook.id")
	KeyEvent    = attribute.Key("forebay.event")
	KeyAttempt  = attribute.Key("forebay.attempt")
	KeySchedule = attribute.Key("forebay.schedule")
)

// System is what the conventions on messaging call the queue.
const System = "asynq"

// Events of spans.
const (
	EventWait     = "wait"
	EventRefused  = "refused"
	EventOrphaned = "attempt orphaned"
)

// TaskType is the last word of the names of spans.
func TaskType(name string) string {
	if name == "" {
		return "adhoc"
	}
	return name
}

// Job are the attributes that say which job a span is about.
func Job(job tasks.Job) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemKey.String(System), semconv.MessagingMessageID(job.ID),
		KeyJob.String(job.ID), KeyTaskType.String(TaskType(job.TaskType)),
	}
	if job.Priority != "" {
		attributes = append(attributes, semconv.MessagingDestinationName(string(job.Priority)))
	}
	if job.Tenant != "" {
		attributes = append(attributes, KeyTenant.String(job.Tenant))
	}
	if job.Member != nil {
		attributes = append(attributes, KeyBatch.String(job.Member.Batch))
	}
	return attributes
}

// Waits notes on a span for what is waited, and until when.
func Waits(span trace.Span, waiting tasks.Waiting, more ...attribute.KeyValue) {
	if !span.IsRecording() {
		return
	}
	span.AddEvent(EventWait, trace.WithAttributes(append(more,
		KeyReason.String(waiting.Reason), KeyUntil.String(waiting.Until.UTC().Format(time.RFC3339Nano)))...))
}

// Enqueue begins the span of a job that is handed in, in the trace that the job brings, or else in the context's, and has
// the job carry it on. A member of a batch begins a trace of its own, with a link to its batch's: a trace of fifty thousand
// jobs is none that can be read. How the job was refused, or what it became, is for the caller to say.
func Enqueue(ctx context.Context, job *tasks.Job) trace.Span {
	ctx = With(ctx, job.Trace)
	var options []trace.SpanStartOption
	if job.Member != nil {
		options = append(options, trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)))
	}
	ctx, span := Start(ctx, "enqueue "+TaskType(job.TaskType), trace.SpanKindProducer, options...)
	job.Trace = Of(ctx)
	return span
}

// Enqueued are the attributes of the span of a job that is handed in.
func Enqueued(job tasks.Job) []attribute.KeyValue {
	return append(Job(job), semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("enqueue"))
}

// Processed are those of the span of a delivery.
func Processed(job tasks.Job) []attribute.KeyValue {
	return append(Job(job), semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("job"))
}
