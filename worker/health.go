package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/worker/internal/policy"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

const (
	// firstHealthTimeout bounds the health probe of an endpoint of priority 1, otherHealthTimeout those of the others.
	firstHealthTimeout, otherHealthTimeout = 5 * time.Second, 10 * time.Second
	// reportTimeout bounds the report of a health probe, and the look at which endpoints are behind. What does not
	// reach Redis by then is not repeated: the next one says the same.
	reportTimeout = 3 * time.Second
	// unknownTries is how often, from one tick to the next, workers are offered a health probe whose endpoint they may
	// not know.
	unknownTries = 12
)

// lookAtOrder looks at the order of the deliveries that begin.
func (w *Worker) lookAtOrder(ctx context.Context) error {
	current := w.plans.use()
	defer w.plans.leave(current)
	return w.refreshOrder(ctx, current)
}

// watchOrder looks at the order anew while the Worker lives.
func (w *Worker) watchOrder() {
	if err := w.lookAtOrder(w.writable); err != nil && w.writable.Err() == nil {
		w.log.Warn().Err(err).Msg("the endpoints' health could not be read; the last known order holds")
	}
}

// processHealthProbe begins a health probe. Its task is done with that, and its slot is free again: no job waits for an
// endpoint that hangs, and no queue repeats what the next tick does anyway.
func (w *Worker) processHealthProbe(task *asynq.Task) error {
	probe, err := envelope.DecodeHealthProbe(task)
	if err != nil {
		w.log.Error().Err(err).Msg("a health probe that cannot be read was taken out of the queue")
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	current := w.plans.use()
	defer w.plans.leave(current)
	switch endpoint := current.catalog.Endpoints[probe.Endpoint]; {
	case w.draining():
		return &returned{why: "the worker shuts down"} // another one makes it
	case w.late(probe):
		w.log.Debug().Str("endpoint", probe.Endpoint).Msg("a health probe was not made: it has waited for too long")
	case endpoint == nil:
		if _, told := w.unknown.LoadOrStore(probe.Endpoint, true); !told {
			w.log.Warn().Str("endpoint", probe.Endpoint).
				Msg("this worker's configuration has no such endpoint, the scheduler's has: its health probes are left to other workers")
		}
		return &returned{in: probe.Every / unknownTries, why: "no such endpoint in this worker's configuration"}
	default:
		d := &delivery{worker: w, plan: w.plans.share(current), jobID: probe.TaskID()} // which Shutdown waits for
		ctx, stop := context.WithCancelCause(w.alive)
		d.stop = stop
		w.running.add(d)
		go func() {
			defer w.running.remove(d)
			defer w.plans.leave(d.plan)
			defer stop(nil)
			defer func() {
				if cause := recover(); cause != nil {
					w.logPanic(d, cause)
				}
			}()
			d.makeHealthProbe(ctx, probe, endpoint)
		}()
	}
	return nil
}

// late tells that the next health probe of the endpoint is due, by the clock of Redis, or that this clock cannot be
// read.
func (w *Worker) late(probe envelope.HealthProbe) bool {
	ctx, cancel := context.WithTimeout(w.writable, reportTimeout)
	defer cancel()
	now, err := w.redis.Time(ctx).Result()
	return err != nil || probe.Late(now)
}

// makeHealthProbe asks the endpoint and reports what came of it. The first signal already ends it.
func (d *delivery) makeHealthProbe(ctx context.Context, probe envelope.HealthProbe, endpoint *catalog.Endpoint) {
	w := d.worker
	go func() {
		select {
		case <-w.stopping:
			d.stop(policy.ErrAbandoned)
		case <-ctx.Done():
		}
	}()
	key, err := d.plan.key(endpoint)
	if err != nil {
		w.log.Error().Err(err).Str("endpoint", endpoint.Name).Msg("the endpoint's key cannot be read here; it is not probed")
		return
	}
	answer, outcome := d.plan.askHealth(ctx, endpoint, key)
	if answer.Err != nil && ctx.Err() != nil {
		return // our own end says nothing of the endpoint
	}
	report := gate.HealthReport{
		Endpoint: gate.Endpoint{Account: endpoint.Account, Name: endpoint.Name}, Tick: probe.Tick, Every: probe.Every,
		Effect: policy.For(outcome.Class).Effect, Status: answer.Status, Class: outcome.Class,
		Latency: answer.Latency, Threshold: endpoint.LatencyThreshold,
	}
	writing, cancel := context.WithTimeout(w.writable, reportTimeout)
	defer cancel()
	change, err := d.plan.gate.ReportHealth(writing, report)
	if err != nil {
		w.log.Warn().Err(err).Msg("what a health probe has found did not reach Redis")
		return
	}
	w.logHealth(report, outcome, change)
	if change.Forwarded {
		w.letGo(endpoint.Name, 0, letGoFirst)
	}
}

// askHealth asks for the endpoint's models, as a call would ask it.
func (p *plan) askHealth(ctx context.Context, endpoint *catalog.Endpoint, key string) (provider.Answer, policy.Outcome) {
	limit := otherHealthTimeout
	if endpoint.Priority == 1 {
		limit = firstHealthTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, policy.ErrCallTimeout)
	defer cancel()
	answer := p.lines[endpoint.Name].ListModels(ctx, key)
	outcome := policy.ClassifyModels(answer)
	outcome.Message = provider.Redact(outcome.Message, key)
	return answer, outcome
}

// logHealth tells of what a health probe has changed.
func (w *Worker) logHealth(report gate.HealthReport, outcome policy.Outcome, change gate.HealthChange) {
	event := w.log.Debug()
	message := "health probe"
	switch {
	case change.FellBehind:
		event, message = w.log.Warn(), "the endpoint's health probes fail or are slow: it is asked after the others"
	case change.CameBack:
		event, message = w.log.Info(), "the endpoint's health probes are good again: it is asked in its own order"
	case change.Forwarded:
		event, message = w.log.Info(), "a health probe was answered: the endpoint's breaker is half-open before its time"
	}
	event.Str("endpoint", report.Endpoint.Name).Int("status", report.Status).Str("class", string(report.Class)).
		Str("code", outcome.Code).Dur("latency", report.Latency).Msg(message)
}
