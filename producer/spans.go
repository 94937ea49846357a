package producer

import (
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// endSpan says what came of the job.
func endSpan(span trace.Span, job tasks.Job, receipt Receipt, err error) {
	tracing.Set(span, func() []attribute.KeyValue {
		if job.ID == "" {
			job.ID = receipt.ID
		}
		attributes := append(tracing.Enqueued(job), tracing.KeyCreated.Bool(receipt.Created))
		if receipt.Status != "" {
			attributes = append(attributes, tracing.KeyStatus.String(string(receipt.Status)))
		}
		return attributes
	})
	if err != nil {
		tracing.Fail(span, refusalWord(err))
	}
	span.End()
}

// refusalWord is the word for why a job was not accepted, as the HTTP interface has it.
func refusalWord(err error) string {
	switch {
	case errors.Is(err, ErrIDConflict):
		return "id_conflict"
	case errors.Is(err, tasks.ErrInvalidJob):
		return "invalid_job"
	case errors.Is(err, ErrFull):
		return "store_full"
	}
	return "store_unavailable"
}
