package worker

import (
	"context"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/tasks/tracing"
	"github.com/forebay-queue/forebay/tasks/webhooks"
	"github.com/forebay-queue/forebay/worker/internal/hooks"
)

// spanOf is the delivery's span, or one that nobody sees.
func (d *delivery) spanOf() trace.Span {
	if d.span == nil {
		return noop.Span{}
	}
	return d.span
}

// MarshalZerologObject says in the log which job a line is about, and in which trace.
func (d *delivery) MarshalZerologObject(event *zerolog.Event) {
	tracing.Line{Job: d.jobID, Span: d.spanOf().SpanContext()}.MarshalZerologObject(event)
}

// beginSpan begins the delivery's span: in the trace that its record holds, or, of a task that came without one, in that of
// the task's headers.
func (d *delivery) beginSpan(ctx context.Context, task *asynq.Task, began time.Time) context.Context {
	carried := d.job.Trace
	if carried.Parent == "" {
		carried = tracing.FromTask(task.Headers())
	}
	ctx, d.span = tracing.Start(tracing.With(ctx, carried), "job "+tracing.TaskType(d.job.TaskType), trace.SpanKindConsumer, trace.WithTimestamp(began))
	tracing.Set(d.span, func() []attribute.KeyValue {
		return append(tracing.Processed(d.job), semconv.MessagingClientID(d.worker.id), tracing.KeyRun.Int(d.record.Run),
			tracing.KeyDelivery.Int(d.record.Deliveries))
	})
	return ctx
}

// noteWait says on the span for what the delivery waits.
func (d *delivery) noteWait(waiting tasks.Waiting) {
	span := d.spanOf()
	if !span.IsRecording() {
		return
	}
	var more []attribute.KeyValue
	if waiting.Limit != "" {
		more = append(more, tracing.KeyLimit.String(waiting.Limit))
	}
	if waiting.Route != "" {
		more = append(more, attribute.String("forebay.route", waiting.Route))
	}
	tracing.Waits(span, waiting, more...)
}

// noteRefusal says on the span that the gate let no call through.
func (d *delivery) noteRefusal(refused gate.Admission) {
	if span := d.spanOf(); span.IsRecording() {
		span.AddEvent(tracing.EventRefused, trace.WithAttributes(
			tracing.KeyReason.String(string(refused.Reason)), tracing.KeyLimit.String(refused.Limit),
			tracing.KeyEndpoint.String(refused.Route.Endpoint), tracing.KeyModel.String(refused.Route.Model)))
	}
}

// noteOrphan says on the span that a call of an earlier delivery was found open, whose worker is gone: that call's own span
// went with the worker.
func (d *delivery) noteOrphan(attempt tasks.Attempt) {
	if span := d.spanOf(); span.IsRecording() {
		span.AddEvent(tracing.EventOrphaned, trace.WithAttributes(
			tracing.KeyEndpoint.String(attempt.Endpoint), tracing.KeyModel.String(attempt.Model), tracing.KeyBilled.Bool(attempt.MaybeBilled),
			attribute.String("forebay.started_at", attempt.StartedAt.UTC().Format(time.RFC3339Nano))))
	}
}

// noteBack says on the span that the job goes back into the queue, and why.
func (d *delivery) noteBack(end conclusion) {
	d.noteWait(end.waiting)
	status := tasks.StatusQueued
	if end.spends {
		status = tasks.StatusRetrying
	}
	d.noteEnd(status, end.failure)
}

// noteEnd says on the span what became of the job by this delivery.
func (d *delivery) noteEnd(status tasks.Status, failure *tasks.Failure) {
	span := d.spanOf()
	tracing.Set(span, func() []attribute.KeyValue { return []attribute.KeyValue{tracing.KeyStatus.String(string(status))} })
	if failure == nil || !span.IsRecording() {
		return
	}
	tracing.Fail(span, string(failure.Class))
	span.SetAttributes(tracing.KeyCode.String(metrics.Code(failure.Code)))
}

// beginCommit begins the span of a commit. Who is told of the job's end goes on in the delivery's trace.
func (d *delivery) beginCommit(end conclusion, result tasks.Result) trace.Span {
	d.noteEnd(end.ended, end.failure)
	tracing.Set(d.spanOf(), func() []attribute.KeyValue {
		return []attribute.KeyValue{tracing.KeyCost.Float64(result.CostUSD), tracing.KeyTier.String(result.Tier)}
	})
	if d.job.Webhook != nil {
		d.record.Job.Trace = tracing.OfSpan(d.spanOf())
	}
	ctx := trace.ContextWithSpan(context.Background(), d.spanOf())
	_, span := tracing.Start(ctx, "commit", trace.SpanKindInternal)
	tracing.Set(span, func() []attribute.KeyValue {
		return []attribute.KeyValue{tracing.KeyJob.String(d.job.ID), tracing.KeyStatus.String(string(end.ended))}
	})
	return span
}

// beginCall begins the span of a call to a provider, by the conventions for generative AI.
func (d *delivery) beginCall(ctx context.Context, call *made, upstream string) trace.Span {
	operation := semconv.GenAIOperationNameChat
	if d.job.Kind == tasks.KindEmbedding {
		operation = semconv.GenAIOperationNameEmbeddings
	}
	_, span := tracing.Start(ctx, operation.Value.AsString()+" "+call.route.Model, trace.SpanKindClient)
	tracing.Set(span, func() []attribute.KeyValue {
		attributes := []attribute.KeyValue{
			operation, semconv.GenAIProviderNameKey.String(tracing.Provider(call.endpoint.URL)), semconv.GenAIRequestModel(upstream),
			tracing.KeyJob.String(d.job.ID), tracing.KeyModel.String(call.route.Model), tracing.KeyEndpoint.String(call.endpoint.Name),
			tracing.KeyAccount.String(call.endpoint.Account), tracing.KeyAttempt.Int(call.ledger.Seq),
		}
		if call.endpoint.Region != "" {
			attributes = append(attributes, tracing.KeyRegion.String(call.endpoint.Region))
		}
		attributes = append(attributes, tracing.Server(call.endpoint.URL)...)
		attributes = append(attributes, tracing.Request(d.job.Request)...)
		if d.worker.config.TraceContent {
			attributes = append(attributes, tracing.Asked(d.job.Kind, d.job.Request)...)
		}
		return attributes
	})
	return span
}

// upstreamTrace is what a provider is told of the trace: nothing, unless the configuration says so.
func (d *delivery) upstreamTrace(span trace.Span) tasks.TraceContext {
	if !d.worker.config.TraceUpstream {
		return tasks.TraceContext{}
	}
	return tracing.OfSpan(span)
}

// endCall says on the span what came of the call.
func (d *delivery) endCall(span trace.Span, call *made) {
	if !span.IsRecording() {
		return
	}
	outcome := call.outcome
	if outcome.Usage != nil {
		span.SetAttributes(
			semconv.GenAIUsageInputTokens(outcome.Usage.PromptTokens), semconv.GenAIUsageOutputTokens(outcome.Usage.CompletionTokens),
			attribute.Bool("forebay.usage_estimated", outcome.Usage.Estimated),
			tracing.KeyCost.Float64(d.plan.catalog.Cost(call.route.Model, *outcome.Usage)))
	}
	if call.ledger.HTTPStatus != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(call.ledger.HTTPStatus))
	}
	if outcome.Class != "" {
		tracing.Fail(span, string(outcome.Class))
		span.SetAttributes(tracing.KeyCode.String(metrics.Code(outcome.Code)), tracing.KeyBilled.Bool(outcome.MaybeBilled))
	}
	if outcome.Class == "" || outcome.Class == tasks.ClassContentPolicy || outcome.Class == tasks.ClassRejected {
		span.SetAttributes(tracing.Answer(call.body)...)
		if d.worker.config.TraceContent {
			span.SetAttributes(tracing.Answered(call.body)...)
		}
	}
}

// MarshalZerologObject says in the log which webhook a line is about, of which job, and in which trace.
func (d *hookDelivery) MarshalZerologObject(event *zerolog.Event) {
	if d.record == nil {
		return
	}
	line := tracing.Line{Job: d.record.Job, Webhook: d.record.ID}
	if d.span != nil {
		line.Span = d.span.SpanContext()
	} else {
		line.Span = trace.SpanContextFromContext(tracing.With(context.Background(), d.record.Trace))
	}
	line.MarshalZerologObject(event)
}

// beginSpan begins the span of an attempt. The address is no part of it, as it may hold a secret; its host is.
func (d *hookDelivery) beginSpan(ctx context.Context) trace.Span {
	r := d.record
	_, d.span = tracing.Start(tracing.With(ctx, r.Trace), "webhook "+r.Event, trace.SpanKindClient)
	tracing.Set(d.span, func() []attribute.KeyValue {
		attributes := []attribute.KeyValue{
			semconv.HTTPRequestMethodPost, tracing.KeyWebhook.String(r.ID), tracing.KeyEvent.String(r.Event), tracing.KeyTenant.String(r.Tenant),
			tracing.KeyAttempt.Int(r.Attempts),
		}
		if r.Attempts > 1 {
			attributes = append(attributes, semconv.HTTPRequestResendCount(r.Attempts-1))
		}
		if r.Job != "" {
			attributes = append(attributes, tracing.KeyJob.String(r.Job), tracing.KeyRun.Int(r.Run))
		}
		if r.Batch != "" {
			attributes = append(attributes, tracing.KeyBatch.String(r.Batch))
		}
		return append(attributes, tracing.Server("//"+webhooks.Host(r.To.URL))...)
	})
	return d.span
}

func endWebhookSpan(span trace.Span, class hooks.Class, answer hooks.Answer) {
	if answer.Status != 0 {
		tracing.Set(span, func() []attribute.KeyValue {
			return []attribute.KeyValue{semconv.HTTPResponseStatusCode(answer.Status)}
		})
	}
	if class != hooks.Delivered {
		tracing.Fail(span, string(class))
	}
}
