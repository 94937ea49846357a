package worker

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"

	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
)

// delayedTaskCheckInterval is how often asynq looks at tasks that are due.
const delayedTaskCheckInterval = time.Second

// repeatUnknown is how soon a delivery is repeated that asynq ended by itself, as when its lease was lost or its
// console cancelled it.
const repeatUnknown = 5 * time.Second

// serverConfig is that of the asynq server of a queue that has so many slots. Retries, backoff and ends are decided by the Worker: asynq only
// delivers again when it is told to.
func (w *Worker) serverConfig(queue string, size int) asynq.Config {
	config := asynqredis.ServerConfig(queue, size)
	config.RetryDelayFunc = func(_ int, err error, _ *asynq.Task) time.Duration {
		switch back := (*returned)(nil); {
		case errors.As(err, &back):
			return back.in
		case errors.Is(err, asynq.ErrLeaseExpired):
			return 0 // the worker died; a call that it left open is a lease of its own, and waited for where it must be
		}
		return repeatUnknown
	}
	config.IsFailure = func(err error) bool {
		back := (*returned)(nil)
		return !errors.As(err, &back) || back.fails
	}
	// Shutdown itself ends deliveries that take too long, and they give their jobs back in an orderly way; asynq's own
	// limit only stands behind it.
	config.ShutdownTimeout = w.config.DrainTimeout + 2*lastWrites
	// Longer than the deliveries' own: asynq is to hear how they gave their jobs back.
	config.BaseContext = func() context.Context { return w.writable }
	config.Logger = asynqLog{w.log.With().Str("queue", queue).Logger(), &w.asynqLines}
	config.LogLevel = asynq.WarnLevel
	return config
}
