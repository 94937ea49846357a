package worker

import (
	"context"
	"time"

	"github.com/forebay-queue/forebay/tasks/letgo"
)

const (
	// letGoFirst is how many jobs are let go when a breaker is half-open before its time: one of them probes. More
	// would only be refused again.
	letGoFirst = 8
	// letGoLooks is how many open jobs are looked at for those that wait.
	letGoLooks = 4096
	// letGoTimeout bounds that. What is not let go comes back by itself.
	letGoTimeout = 30 * time.Second
)

// letGo has jobs delivered, a while from now, whose time has not come and that wait for a breaker which has changed.
// Nobody waits for it.
func (w *Worker) letGo(endpoint string, in time.Duration, most int) {
	w.background.Go(func() {
		if !pause(w.writable, in) {
			return
		}
		ctx, cancel := context.WithTimeout(w.writable, letGoTimeout)
		defer cancel()
		gone, err := letgo.Jobs(ctx, w.redis, w.store, endpoint, letGoLooks, most)
		switch {
		case err != nil && w.writable.Err() == nil:
			w.log.Warn().Err(err).Str("endpoint", endpoint).Msg("jobs that wait for the endpoint come back at their own time")
		case gone > 0:
			w.log.Info().Str("endpoint", endpoint).Int("jobs", gone).Msg("jobs that waited for the endpoint go on")
		}
	})
}
