package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/gate"
)

const (
	firstRewrite   = 50 * time.Millisecond
	slowestRewrite = 2 * time.Second
)

// persist writes what must not be lost: while Redis is away it tries again, for as long as the process may live.
func (w *Worker) persist(what string, of zerolog.LogObjectMarshaler, write func(context.Context) error) error {
	wait := firstRewrite
	for try := 1; ; try++ {
		err := write(w.writable)
		if err == nil || !outage(err) {
			return err
		}
		if try == 1 {
			w.log.Warn().Err(err).EmbedObject(of).Msg("Redis is away or takes no writes; the worker keeps trying to " + what)
		}
		if !pause(w.writable, wait) {
			w.log.Error().Err(err).EmbedObject(of).Msg("the worker stopped before it could " + what)
			return err
		}
		wait = min(2*wait, slowestRewrite)
	}
}

// outages are the replies of a Redis that cannot write at the moment.
var outages = []string{
	"LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "OOM", "MISCONF", "BUSY", "NOREPLICAS", "UNBLOCKED",
}

// outage tells an error that time may mend from Redis's plain answer.
func outage(err error) bool {
	var network net.Error
	switch {
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return true
	}
	for _, prefix := range outages {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// pauseUnlessDraining waits, and reports whether it was not cut off by the context or the Worker's stop.
func (w *Worker) pauseUnlessDraining(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.stopping:
		return false
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// eventTimeout bounds the writing of an event: nobody's call waits for longer.
const eventTimeout = 2 * time.Second

// followTransition tells of every change of a breaker, in the log and as an event. After a recovery the jobs go on that
// wait for the endpoint, once it is asked everything again.
func (d *delivery) followTransition(outcome gate.Outcome, change gate.Transition) {
	w := d.worker
	if change.Change != gate.Unchanged {
		ctx, cancel := context.WithTimeout(w.writable, eventTimeout)
		defer cancel()
		if err := d.plan.gate.Publish(ctx, outcome, change); err != nil {
			w.log.Warn().Err(err).Str("endpoint", outcome.Route.Endpoint).Msg("a breaker changed and no event tells of it")
		}
	}
	switch change.Change {
	case gate.Opened, gate.Reopened:
		w.log.Warn().Str("endpoint", outcome.Route.Endpoint).Str("effect", string(outcome.Effect)).
			Strs("others", change.OthersOpened).Msg("breaker " + string(change.Change))
	case gate.Closed:
		w.log.Info().Str("endpoint", outcome.Route.Endpoint).Msg("breaker closed")
		w.letGo(outcome.Route.Endpoint, *d.plan.catalog.Breaker.Ramp, letGoLooks)
	case gate.Unchanged:
	}
}

func (w *Worker) logPanic(of zerolog.LogObjectMarshaler, cause any) {
	w.log.Error().EmbedObject(of).Interface("panic", cause).Bytes("stack", debug.Stack()).Msg("a delivery panicked")
}
