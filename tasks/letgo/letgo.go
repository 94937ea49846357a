// Package letgo has jobs go on that wait for an endpoint which is well again, before their time.
package letgo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// Jobs has jobs delivered now that wait in their queues for the breaker of an endpoint: at most so many, those first
// that would come back the soonest, of about as many open jobs as it is to look at. What of them has moved on meanwhile
// is left alone. It returns how many it has let go.
func Jobs(ctx context.Context, client redis.UniversalClient, store *jobstore.Store, endpoint string, look, most int) (int, error) {
	waits, _, _, err := store.Waits(ctx, look)
	if err != nil {
		return 0, err
	}
	waits = slices.DeleteFunc(waits, func(wait jobstore.Wait) bool {
		reason := gate.Reason(wait.Waiting.Reason)
		return reason != gate.ReasonBreakerOpen && reason != gate.ReasonProbeOut || !strings.HasSuffix(wait.Waiting.Route, "@"+endpoint)
	})
	slices.SortFunc(waits, func(a, b jobstore.Wait) int { return a.Waiting.Until.Compare(b.Waiting.Until) })
	inspector := asynq.NewInspectorFromRedisClient(client)
	gone := 0
	for _, wait := range waits[:min(most, len(waits))] {
		err := inspector.RunTask(envelope.Queue(store.Keys(), wait.Priority, wait.Shard), envelope.TaskID(wait.ID, wait.Run))
		if network := net.Error(nil); errors.As(err, &network) { // asynq's own refusals are of tasks that have moved on
			return gone, fmt.Errorf("let job %s go on, which comes back by itself at %s: %w", wait.ID, wait.Waiting.Until.Format(time.TimeOnly), err)
		}
		if err == nil {
			gone++
		}
		if err := ctx.Err(); err != nil {
			return gone, err
		}
	}
	return gone, nil
}
