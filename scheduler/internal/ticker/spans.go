package ticker

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/schedules"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// beginSpan begins the trace of a tick, and has its job carry it on.
func beginSpan(job *tasks.Job, schedule schedules.Schedule, tick time.Time) trace.Span {
	span := tracing.Enqueue(context.Background(), job)
	tracing.Set(span, func() []attribute.KeyValue {
		return append(tracing.Enqueued(*job), tracing.KeySchedule.String(schedule.Name), tracing.KeyTenant.String(schedule.Tenant),
			attribute.String("forebay.tick", tick.UTC().Format(time.RFC3339)))
	})
	return span
}

func endSpan(span trace.Span, err error) {
	switch {
	case errors.Is(err, tasks.ErrInvalidJob):
		tracing.Fail(span, codeInvalid)
	case errors.Is(err, jobstore.ErrIDConflict):
		tracing.Fail(span, "id_conflict")
	case err != nil:
		tracing.Fail(span, "store_unavailable")
	}
	span.End()
}
